"""English documents out of Debian packages: what /usr/share/doc and its like hold as HTML, text, reStructuredText, Markdown,
Mallard or info, without markup, without what is not English prose, and without lines that another document has already.
"""

import gzip
import hashlib
import html
import re
import subprocess
import tarfile

_KIND = re.compile(r"\.(html?|txt|rst|md|page|info(?:-\d+)?|texi|adoc)(\.gz)?$")
# Among them a page's other forms (Sphinx's sources, Doxygen's listings, translations that are English in part), so that
# nothing held out is trained on in another dress.
_IGNORED = re.compile(r"changelog|copyright|license|genindex|py-modindex|searchindex|index-all|todo|copying|/_modules/|"
                      r"/_sources/|_source\.html|/man/|/(?!en-)[a-z]{2}-[a-z]{2}/|/zh|/ja/|/de/|/fr/|/es/", re.I)
_HIDDEN = re.compile(r"<(script|style|head|nav|svg|title)\b.*?</\1\s*>|<!--.*?-->", re.S | re.I)
_BREAK = re.compile(r"<(/?(p|div|h\d|li|ul|ol|dl|dt|dd|tr|table|pre|blockquote|section|br|hr|title|item|note)\b)[^>]*>", re.I)
_TAG = re.compile(r"</?[a-zA-Z!?][^<>]{0,2000}>")
_WORD = re.compile(r"[A-Za-z']+")
_COMMON = frozenset("the of and to a in is that for it as with be on are this by or from an not can if at you".split())
_LEAST = 1200  # characters of a document
_LARGEST = 4 << 20  # bytes of a file
_BOILERPLATE = 30  # a line as long as this one is kept where it is met first


def _plain(name, raw):
    text = raw.decode("utf-8", "replace")
    if re.search(r"\.(html?|page)(\.gz)?$", name):
        text = html.unescape(_TAG.sub("", _BREAK.sub("\n", _HIDDEN.sub(" ", text))))
    text = "\n".join(line.rstrip() for line in text.replace("\x1f", "").replace("\xa0", " ").split("\n"))
    return re.sub(r"\n{3,}", "\n\n", text).strip()


def english(text):
    """Whether it reads as English prose: enough of the commonest words, mostly ASCII letters."""
    words = _WORD.findall(text)
    letters = sum(map(len, words))
    common = sum(word.lower() in _COMMON for word in words)
    return len(words) >= 150 and common >= 0.2 * len(words) and letters >= 0.55 * len(re.sub(r"\s", "", text))


def _documents(archive):
    for member in archive:
        name = member.name.lstrip("./")
        if not member.isfile() or not _KIND.search(name) or _IGNORED.search(name) or member.size > _LARGEST:
            continue
        raw = archive.extractfile(member).read()
        try:
            text = _plain(name, gzip.decompress(raw) if name.endswith(".gz") else raw)
        except (OSError, EOFError):
            continue  # called .gz and is none
        if len(text) >= _LEAST and english(text):
            yield name, text


def documents(package):
    """(path in the package, text) of every English document of a .deb, in its order."""
    command = ["dpkg-deb", "--fsys-tarfile", package]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as unpacking:
        try:
            with tarfile.open(fileobj=unpacking.stdout, mode="r|") as archive:
                yield from _documents(archive)
        except tarfile.TarError:
            raise OSError(f"{package} is no whole Debian package: download it again") from None


class Unseen:
    """Takes lines out of documents that an earlier one had: navigation, licences, the same page twice."""

    def __init__(self):
        self._seen = set()

    def __call__(self, text):
        """What is new in the text; empty where too little is."""
        kept = []
        for line in text.split("\n"):
            if len(line.strip()) >= _BOILERPLATE:
                key = hashlib.blake2b(line.strip().encode(), digest_size=8).digest()
                if key in self._seen:
                    continue
                self._seen.add(key)
            kept.append(line)
        new = re.sub(r"\n{3,}", "\n\n", "\n".join(kept)).strip()
        return new if len(new) >= _LEAST else ""
