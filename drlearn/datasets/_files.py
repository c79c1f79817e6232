"""Where data files are looked for, how they are downloaded, and how event columns become rows."""

from __future__ import annotations

import io
import os
import re
import urllib.request
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pooch

from drlearn.interactions import Interactions, Vocabulary

TIMEOUT = 60  # seconds without an answer before a server counts as unreachable


def data_folders(data_home) -> list[Path]:
    """Return the folders to look in, the environment's first; the last one is where downloads go."""
    cache = Path(pooch.os_cache("drlearn") if data_home is None else data_home).expanduser()
    given = os.environ.get("DRLEARN_DATA")
    return [Path(given).expanduser(), cache] if given else [cache]


def find(names, folders) -> Path | None:
    """Return the first name (file or folder) in the first folder that has one, there or in its ``raw/``."""
    places = (place / name for folder in folders for name in names for place in (folder, folder / "raw"))
    return next((place for place in places if place.exists()), None)


def download(url: str, folder: Path, known_hash: str | None, verbose: bool) -> Path:
    """Fetch `url` into `folder`, checked against `known_hash` or, without one, against ``url + ".md5"``."""
    name = url.rpartition("/")[2]
    logger = pooch.get_logger()
    level = logger.level
    # pooch greets each download through its logger, whatever we tell it.
    logger.setLevel(level if verbose else "WARNING")
    try:
        return Path(
            pooch.retrieve(
                url,
                known_hash or f"md5:{_published_md5(url)}",
                fname=name,
                path=folder,
                downloader=pooch.HTTPDownloader(progressbar=verbose, timeout=TIMEOUT),
            )
        )
    except OSError as error:
        raise OSError(
            f"Could not download {url} ({type(error).__name__}: {error}). Without a connection, fetch {name} "
            f"on another machine and put it into {folder}, or into any folder that the environment variable "
            "DRLEARN_DATA names."
        ) from error
    except ValueError as error:
        raise OSError(
            f"{url} arrived with a checksum other than the published one and was thrown away ({error}). Try "
            f"again; if it persists, fetch {name} by hand, check it, and put it into {folder}."
        ) from error
    finally:
        logger.setLevel(level)


def _published_md5(url: str) -> str:
    with urllib.request.urlopen(f"{url}.md5", timeout=TIMEOUT) as answer:
        text = answer.read(1000).decode("ascii", "replace")
    found = re.search(r"\b[0-9a-fA-F]{32}\b", text)
    if found is None:
        raise OSError(f"{url}.md5 holds no md5 checksum")
    return found[0].lower()


def missing(name: str, wanted, folders) -> OSError:
    """Build the error for data that stands nowhere and may not be downloaded."""
    return OSError(
        f"{name} is not on this machine: none of {list(wanted)} in {[str(folder) for folder in folders]}. "
        "Allow the download with download_if_missing=True, or name the folder that holds it in the "
        "environment variable DRLEARN_DATA."
    )


def open_member(source: Path, member: str, encoding: str = "utf-8") -> io.TextIOBase:
    """Open a text file of an unpacked folder, or of a zip file, at whatever depth it holds it."""
    if source.is_dir():
        return open(source / member, encoding=encoding, newline="")
    with zipfile.ZipFile(source) as archive:
        inside = [name for name in archive.namelist() if name.rpartition("/")[2] == member]
        if not inside:
            raise OSError(
                f"{source} holds no {member}; it is not the original file. Remove it and fetch it again."
            )
        return io.TextIOWrapper(archive.open(min(inside, key=len)), encoding=encoding, newline="")


def has_member(source: Path, member: str) -> bool:
    """Tell whether `open_member` would find the file."""
    if source.is_dir():
        return (source / member).exists()
    with zipfile.ZipFile(source) as archive:
        return any(name.rpartition("/")[2] == member for name in archive.namelist())


class Counts(NamedTuple):
    """What a paper says that its filters leave of a data set."""

    n_users: int
    n_items: int
    n_events: int


def of_active_users(users: np.ndarray, min_user_events: int) -> np.ndarray:
    """Mask of the events whose user has at least so many of them."""
    _, codes, counts = np.unique(users, return_inverse=True, return_counts=True)
    return (counts >= min_user_events)[codes]


def warn_unless_published(what: str, X: Interactions, published: Counts) -> None:
    """Warn where a data set is not, by its counts, the one that figures were published for."""
    found = Counts(X.n_users, X.n_items, X.n_events)
    if found != published:
        said = ["{:,} users, {:,} items and {:,} events".format(*counts) for counts in (found, published)]
        warnings.warn(
            f"{what}: {said[0]} are left, where the papers count {said[1]}. Figures will not compare with "
            "theirs: the file is cut short, or of another release.",
            stacklevel=3,
        )


def read_parquet(path: Path, whole: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """Read the columns of a parquet file; those that must be `whole` have no gaps."""
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError(
            f'Reading {path} needs pyarrow: pip install "drlearn[parquet]", or put the original files there.'
        ) from error
    table = pyarrow.parquet.read_table(path)
    for name in whole:
        if name in table.column_names and table.column(name).null_count:
            raise ValueError(f"column {name!r} has {table.column(name).null_count} missing value(s)")
    return {name: table.column(name).to_numpy() for name in table.column_names}


def interactions_from_events(users, items, times, weights) -> Interactions:
    """Sort events stably by user and time into rows."""
    user_table, users = Vocabulary.from_values(users)
    item_table, items = Vocabulary.from_values(items)
    order = np.lexsort((times, users))
    return Interactions(
        np.append(0, np.cumsum(np.bincount(users, minlength=len(user_table)))),
        items[order],
        item_vocabulary=item_table,
        user_ids=user_table.ids,
        times=times[order],
        weights=weights[order],
    )
