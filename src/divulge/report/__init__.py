"""What a person sees."""

import os
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from divulge.auditing.facts import Facts, Verdict
from divulge.errors import BadInputError, StoreError

if TYPE_CHECKING:
    from rich.text import Text

_PAGES = (".html", ".htm")
_OTHER_FILES = (".pdf", ".json", ".csv", ".txt", ".md", ".png", ".docx")


class Report:
    """The report of an audit, for the terminal, a notebook and a browser.

    Args:
        facts: all that it says.
    """

    def __init__(self, facts: Facts) -> None:
        self.facts = facts

    @property
    def verdict(self) -> Verdict:
        """The answer."""
        return self.facts.verdict

    @classmethod
    def read(cls, path: str | Path) -> "Report":
        """Read a report back from its `.json` file, or from the folder that has a `report.json`.

        Raises:
            BadInputError: no such file, no JSON, or another schema version.
        """
        path = Path(path)
        return cls(Facts.read(path / "report.json" if path.is_dir() else path))

    def html(self) -> str:
        """The page, self-contained."""
        from divulge.report.html import render

        return render(self.facts)

    def save(self, path: str | Path) -> Path:
        """Write the report and return where the page is; a file is either whole or not there.

        Args:
            path: `NAME.html` for the page with `NAME.json` beside it, or a folder for `report.html`, `report.json` and,
                where there are records, `records.csv`.

        Raises:
            BadInputError: another kind of file, or a picture that is no PNG.
            StoreError: the place cannot be written.
        """
        from divulge.report.export import to_csv

        path = Path(path)
        if path.suffix.lower() in _PAGES:
            page, files = path, {path.with_suffix(".json"): self.facts.to_json()}
        elif path.is_dir() or path.suffix.lower() not in _OTHER_FILES:
            page, files = path / "report.html", {path / "report.json": self.facts.to_json()}
            if self.facts.records:
                files[path / "records.csv"] = "\ufeff" + to_csv(self.facts.records)[0]
        else:
            raise BadInputError(
                f"report: expected a file that ends in .html or a folder, got {str(path)!r}. "
                "For a PDF, save the page and print it from a browser."
            )
        for file, text in {**files, page: self.html()}.items():
            _write(file, text)
        return page

    def __str__(self) -> str:
        from divulge.report.text import summary

        return summary(self.facts)

    def __rich__(self) -> "Text":
        from rich.text import Text

        return Text(str(self))

    def _repr_html_(self) -> str:
        page = escape(self.html())
        return (
            '<iframe title="divulge report" width="100%" height="760" sandbox="allow-scripts allow-downloads" '
            f'srcdoc="{page}"></iframe>'
        )


def writable(path: str | Path) -> None:
    """Check before a long audit that its report can be saved at `path`; nothing is created.

    Raises:
        StoreError: `path`, or the folder that it would be made in, cannot be written.
    """
    path = Path(path).absolute()
    found = next(folder for folder in (path, *path.parents) if folder.exists())
    if found == path and path.suffix.lower() in _PAGES:
        found = path.parent
    if not found.is_dir() or not os.access(found, os.W_OK | os.X_OK):
        why = "is not writable" if found.is_dir() else "is not a folder"
        raise StoreError(
            f"report: cannot write {str(path)!r}: {str(found)!r} {why}. Choose a folder that you can write to."
        )


def _write(path: Path, text: str) -> None:
    """Write a whole file under a temporary name beside `path` and rename it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            # Names of files that are no UTF-8 reach Python as lone surrogates, which no file can hold.
            temporary.write_text(text, encoding="utf-8", errors="replace", newline="")
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(
            f"report: cannot write {str(path)!r}: {error.strerror or error}. Choose a folder that you can write to."
        ) from None


__all__ = ["Report", "writable"]
