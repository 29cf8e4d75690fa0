"""Reads the text format 0.0.4 strictly: families in one piece, HELP and TYPE in front, no duplicate series."""
import re

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LINE = re.compile(rf"({NAME})(\{{(.*)\}})? (\S+)")
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(,|$)')


def unescape(text):
    return re.sub(r'\\(["\\n])', lambda match: "\n" if match[1] == "n" else match[1], text)


class Exposition:
    def __init__(self, text):
        assert text.endswith("\n"), "the last line has no newline"
        self.text = text
        self.help, self.type, self.label_names = {}, {}, {}
        self.samples = {}  # (name, frozenset of labels) -> the value's text
        done, current = set(), None
        for line in text.splitlines():
            if line.startswith("# HELP "):
                _, _, name, help_text = line.split(" ", 3)
                assert name not in self.help, f"two HELP lines for {name}"
                self.help[name] = help_text
            elif line.startswith("# TYPE "):
                _, _, name, kind = line.split(" ")
                assert name not in self.type, f"two TYPE lines for {name}"
                self.type[name] = kind
            else:
                name = self._sample(line)
                if name != current:
                    assert name not in done, f"{name} is not in one piece"
                    assert name in self.type, f"{name} has no TYPE line in front"
                    if current:
                        done.add(current)
                    current = name

    def _sample(self, line):
        match = LINE.fullmatch(line)
        assert match, f"not a line of the text format: {line!r}"
        labels, rest, names = {}, match[3] or "", []
        while rest:
            label = LABEL.match(rest)
            assert label, f"bad labels: {line!r}"
            assert label[1] not in labels, f"label twice: {line!r}"
            labels[label[1]] = unescape(label[2])
            names.append(label[1])
            rest = rest[label.end():]
        float(match[4])
        key = (match[1], frozenset(labels.items()))
        assert key not in self.samples, f"series twice: {line!r}"
        self.samples[key] = match[4]
        self.label_names.setdefault(match[1], names)
        assert self.label_names[match[1]] == names, f"labels in another order: {line!r}"
        return match[1]

    def series(self, name, /, **labels):
        """[(labels, value text)] of the family's series that have these labels."""
        wanted = set(labels.items())
        return [(dict(key[1]), value) for key, value in self.samples.items() if key[0] == name and wanted <= key[1]]

    def text_value(self, name, /, **labels):
        """The value of the one such series as it stands there; None when there is none."""
        found = self.series(name, **labels)
        assert len(found) <= 1, f"{len(found)} series {name} {labels}"
        return found[0][1] if found else None

    def value(self, name, /, **labels):
        text = self.text_value(name, **labels)
        return None if text is None else float(text)

    def total(self, name, /, **labels):
        return sum(float(value) for _, value in self.series(name, **labels))
