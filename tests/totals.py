"""Adds up JUnit XML results (of ctest and pytest): names what failed or was skipped, and prints one line of totals."""
import sys
import xml.etree.ElementTree as ElementTree


def outcome(case):
    skipped = case.find("skipped")
    if skipped is not None:
        # ctest calls a test whose program is missing skipped.
        return "failed" if skipped.get("message", "").startswith("Unable to find") else "skipped"
    if case.find("failure") is not None or case.find("error") is not None or case.get("status") == "fail":
        return "failed"
    return "passed"


def cases(path):
    """The test cases of one file; a file that is missing or broken is one that failed: the run was cut short."""
    try:
        return list(ElementTree.parse(path).iter("testcase"))
    except (OSError, ElementTree.ParseError) as error:
        return [ElementTree.Element("testcase", name=f"results of the run: {error}", status="fail")]


def main(paths):
    totals = {"passed": 0, "failed": 0, "skipped": 0}
    for path in paths:
        for case in cases(path):
            result = outcome(case)
            totals[result] += 1
            if result != "passed":
                name = "::".join(filter(None, [case.get("classname"), case.get("name")]))
                skipped = case.find("skipped")
                reason = skipped.get("message", "") if skipped is not None else ""
                print(f"{result}: {name}" + (f" ({reason})" if reason else ""))
    print(", ".join(f"{count} {result}" for result, count in totals.items()))
    return 0 if totals["failed"] == 0 and totals["passed"] > 0 else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
