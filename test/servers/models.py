"""Writes small real models into the folder given, and what each answers for a few rows: answers.json."""
import json
import sys
from pathlib import Path

import joblib
import lightgbm
import numpy
import xgboost
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

out = Path(sys.argv[1])
rows, labels = load_iris(return_X_y=True)
asked = rows[::30]

(out / "sklearn").mkdir(parents=True, exist_ok=True)
classifier = LogisticRegression(max_iter=500).fit(rows, labels)
joblib.dump(classifier, out / "sklearn" / "model.joblib")

(out / "lightgbm").mkdir()
booster = lightgbm.train({"verbosity": -1, "num_threads": 1}, lightgbm.Dataset(rows, labels), num_boost_round=10)
booster.save_model(str(out / "lightgbm" / "model.bst"))

(out / "xgboost").mkdir()
trees = xgboost.train({"nthread": 1}, xgboost.DMatrix(rows, labels), num_boost_round=10)
trees.save_model(out / "xgboost" / "model.json")

(out / "broken.joblib").write_text("no model")
answers = {
    "rows": asked.tolist(),
    "sklearn": classifier.predict(asked).tolist(),
    "lightgbm": booster.predict(asked).tolist(),
    "xgboost": trees.predict(xgboost.DMatrix(asked)).astype(numpy.float64).tolist(),
}
(out / "answers.json").write_text(json.dumps(answers))
