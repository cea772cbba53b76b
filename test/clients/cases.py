"""How a case is run and told."""
import json
import sys

failures = 0


def case(name, run):
    """Runs one case: it passes unless it raises or returns False."""
    global failures
    saw = None
    try:
        result = run()
        ok = result is not False
        saw = "False" if not ok else None
    except Exception as error:  # whatever a client raises is what its user would see
        ok, saw = False, f"{type(error).__name__}: {error}"
    failures += not ok
    print(json.dumps({"case": name, "ok": ok, "saw": saw}), flush=True)


def refused(run, kind, *words):
    """The call must raise `kind`, and its text must hold the words."""
    try:
        result = run()
    except kind as error:
        missing = [word for word in words if word not in str(error)]
        assert not missing, f"{error} does not say {missing}"
        return True
    raise AssertionError(f"was not refused, but answered {result}")


def finish():
    sys.exit(1 if failures else 0)
