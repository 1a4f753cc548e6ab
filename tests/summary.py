#!/usr/bin/env python3
"""Adds up the JUnit reports of a test run: names what failed and was skipped, then "N passed, N failed, N skipped"."""
import pathlib
import sys
import xml.etree.ElementTree as ElementTree


def outcome(case):
    if case.find("failure") is not None or case.find("error") is not None:
        return "failed"
    if case.find("skipped") is not None or case.get("status") == "notrun":
        return "skipped"
    return "passed"


def main():
    count = {"passed": 0, "failed": 0, "skipped": 0}
    for path in sorted(pathlib.Path(sys.argv[1]).glob("*.xml")):
        try:
            cases = list(ElementTree.parse(path).iter("testcase"))
        except ElementTree.ParseError as error:
            print(f"failed: {path.name}: unreadable report: {error}")
            count["failed"] += 1
            continue
        for case in cases:
            result = outcome(case)
            count[result] += 1
            if result != "passed":
                print(f"{result}: {path.stem}: {case.get('classname')}.{case.get('name')}")
    print(f"{count['passed']} passed, {count['failed']} failed, {count['skipped']} skipped")
    return 1 if count["failed"] or not count["passed"] else 0


if __name__ == "__main__":
    sys.exit(main())
