"""Writes real scikit-learn models of mixed sizes into the folder given, and what each answers for one row: answers.json."""
import json
import sys
from pathlib import Path

import joblib
import numpy
from sklearn.ensemble import RandomForestClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.tree import DecisionTreeClassifier

out = Path(sys.argv[1])
random = numpy.random.default_rng(7)
row = numpy.full((1, 8), 0.25)
answers = {}

for at, rows in enumerate([300, 700, 1500, 3000, 6000, 10000, 16000, 24000, 36000, 50000, 64000]):
    data, labels = random.random((rows, 8)), random.integers(0, 50, rows)
    answers[f"neighbours-{at}"] = KNeighborsClassifier(1, algorithm="brute").fit(data, labels)
for at, trees in enumerate([2, 5, 10, 20]):
    data, labels = random.random((600, 8)), random.integers(0, 4, 600)
    answers[f"forest-{at}"] = RandomForestClassifier(trees, n_jobs=1).fit(data, labels)
for at, rows in enumerate([50, 500, 2000]):
    data, labels = random.random((rows, 8)), random.integers(0, 4, rows)
    answers[f"tree-{at}"] = DecisionTreeClassifier().fit(data, labels)

for name, model in answers.items():
    (out / name).mkdir(parents=True, exist_ok=True)
    joblib.dump(model, out / name / "model.joblib")
told = {name: float(model.predict(row)[0]) for name, model in answers.items()}
(out / "answers.json").write_text(json.dumps({"row": row[0].tolist(), "answers": told}))
