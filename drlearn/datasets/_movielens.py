"""The MovieLens sets: GroupLens' original files in their four formats, or parquet copies of them."""

from __future__ import annotations

import csv
import zipfile
import zlib
from itertools import chain
from numbers import Real
from pathlib import Path
from typing import NamedTuple

import numpy as np
from sklearn.utils import Bunch

from drlearn._checks import check_positive
from drlearn.datasets._files import (
    Counts,
    data_folders,
    download,
    find,
    has_member,
    interactions_from_events,
    missing,
    of_active_users,
    open_member,
    read_parquet,
    warn_unless_published,
)

URL = "https://files.grouplens.org/datasets/movielens/"

CITATION = (
    "F. Maxwell Harper and Joseph A. Konstan. 2015. The MovieLens Datasets: History and Context. "
    "ACM Transactions on Interactive Intelligent Systems 5, 4, Article 19. https://doi.org/10.1145/2827872"
)


_DAMAGE = (
    ValueError, LookupError, EOFError, StopIteration, NotImplementedError, RuntimeError, csv.Error,
    zipfile.BadZipFile, zlib.error,
)  # fmt: skip


class _Release(NamedTuple):
    """What is published under a name; without a checksum, the one that lies beside the file counts."""

    folder: str  # in the zip file
    md5: str | None
    about: str


RELEASES = {
    "latest-small": _Release(
        "ml-latest-small", None, "about 100,000 ratings; GroupLens changes it over time"
    ),
    "100k": _Release(
        "ml-100k", "0e33842e24a9c977be4e0107933c0723", "100,000 ratings, 943 users, 1,682 films"
    ),
    "1m": _Release(
        "ml-1m", "c4d9eecfca2ab87c1945afe126590906", "1,000,209 ratings, 6,040 users, 3,706 films"
    ),
    "10m": _Release("ml-10M100K", "ce571fd55effeba0271552578f2648bd", "10,000,054 ratings, 69,878 users"),
    "20m": _Release("ml-20m", "cd245b17a1ae2cc31bb14903e1204af3", "20,000,263 ratings, 138,493 users"),
    "25m": _Release("ml-25m", "6b51fb2759a8657d3bfcbfc42b592ada", "25,000,095 ratings, 162,541 users"),
    "32m": _Release("ml-32m", "d472be332d4daa821edc399621853b57", "32,000,204 ratings, 200,948 users"),
}

# By set, smallest rating and events a user (TDM, Zhu et al. 2018; Deep Retrieval after it).
PUBLISHED = {("20m", 4, 10): Counts(129_797, 20_709, 9_939_873)}


def fetch_movielens(
    name: str = "latest-small",
    *,
    min_rating: float | None = None,
    min_user_events: int = 1,
    data_home: str | Path | None = None,
    download_if_missing: bool = True,
    verbose: bool = True,
) -> Bunch:
    """Load a MovieLens set: from disk where it stands there, else from GroupLens.

    It is looked for in the folder that the environment variable ``DRLEARN_DATA`` names, then in `data_home`;
    in each, also in the subfolder ``raw``, and in this order: the original zip file (``ml-1m.zip``), its
    unpacked folder (``ml-1m/``), a parquet copy (``ml-1m.parquet`` with the columns user, item, rating and
    timestamp or position, and ``ml-1m-items.parquet`` with item, title and genres).

    Parameters
    ----------
    name : {"latest-small", "100k", "1m", "10m", "20m", "25m", "32m"}, default="latest-small"
        Which set.
    min_rating : float, default=None
        Keep ratings of at least this; None keeps all. The papers count ratings of 4 and more as events.
    min_user_events : int, default=1
        Keep users with at least this many of the ratings kept; the papers' is 10. What ``min_rating=4,
        min_user_events=10`` leaves of "20m" is compared with what they count (129,797 users, 20,709 items,
        9,939,873 events); where it differs, a warning names both.
    data_home : str or path, default=None
        Where downloads are kept; the user's cache folder by default.
    download_if_missing : bool, default=True
        Whether to download what is not found.
    verbose : bool, default=True
        Show the progress of a download.

    Returns
    -------
    bunch : sklearn.utils.Bunch
        With these entries:

        - ``interactions`` : Interactions. One row a user, in time order (ties as in the file). Ids are
          GroupLens' (int64), ``times`` seconds since 1970 (an event's number in its row where a parquet copy
          has none), ``weights`` the ratings. Users and items that the filters leave without events are
          left out.
        - ``titles`` : dict of item id to title.
        - ``genres`` : dict of item id to tuple of genres (empty where a parquet copy has none).
        - ``name``, ``source``, ``DESCR`` : str. The set, where it was read from, and what it is.

    Raises
    ------
    ValueError
        If the name is unknown, a filter is no number of its kind, or both leave no event.
    OSError
        If the set is not found and may not or cannot be downloaded, or is damaged.
    ImportError
        If only a parquet copy is found and pyarrow is not installed.

    Notes
    -----
    Downloads are checked against GroupLens' md5 checksums: fixed ones for the stable releases, the one
    published beside the file for ``"latest-small"``, which changes. GroupLens grants use for research under
    the terms in each set's README, and asks to be cited.

    Examples
    --------
    >>> bunch = fetch_movielens("100k")  # doctest: +SKIP
    >>> bunch.interactions  # doctest: +SKIP
    Interactions(n_users=943, n_items=1682, n_events=100000)
    """
    if name not in RELEASES:
        raise ValueError(f"name must be one of {list(RELEASES)}; got {name!r}.")
    if min_rating is not None and (isinstance(min_rating, bool) or not isinstance(min_rating, Real)):
        raise ValueError(f"min_rating must be a number or None; got {min_rating!r}.")
    check_positive(min_user_events, "min_user_events")
    release, stem = RELEASES[name], f"ml-{name}"
    folders = data_folders(data_home)
    wanted = list(dict.fromkeys([f"{stem}.zip", stem, release.folder, f"{stem}.parquet"]))
    source = find(wanted, folders)
    if source is None:
        if not download_if_missing:
            raise missing(f"MovieLens {name}", wanted, folders)
        known_hash = f"md5:{release.md5}" if release.md5 else None
        source = download(f"{URL}{stem}.zip", folders[-1], known_hash, verbose)
    events, films = _read(source)
    interactions = _filtered(events, min_rating, min_user_events)
    published = PUBLISHED.get((name, min_rating, min_user_events))
    if published is not None:
        what = f"{source}, ratings of {min_rating} and more of users with {min_user_events}"
        warn_unless_published(what, interactions, published)
    return Bunch(
        interactions=interactions,
        titles={item: title for item, title, _ in films},
        genres={item: genres for item, _, genres in films if genres is not None},
        name=f"movielens-{name}",
        source=str(source),
        DESCR=f"MovieLens {name}: {release.about}.\n{URL}{stem}.zip\nCite: {CITATION}",
    )


def _read(source: Path):
    """Return (users, items, times, ratings) and the films, or say that the source is damaged."""
    try:
        return _read_whole(source)
    except _DAMAGE as error:
        raise OSError(
            f"{source} is damaged or not MovieLens' original ({type(error).__name__}: {error}). Remove it "
            "and fetch it again; read other files into a dataframe, and that with Interactions.from_frame."
        ) from error


def _read_whole(source: Path):
    """Choose the reader by what the source holds."""
    if source.suffix == ".parquet":
        return _read_parquet(source)
    if has_member(source, "u.data"):
        return _read_tab(source)
    if has_member(source, "ratings.dat"):
        return _read_dat(source)
    return _read_csv(source)


def _filtered(events, min_rating, min_user_events):
    """Rows of the ratings that both filters keep."""
    if min_rating is not None:
        keep = events[3] >= min_rating
        events = [column[keep] for column in events]
    if min_user_events > 1:
        keep = of_active_users(events[0], min_user_events)
        events = [column[keep] for column in events]
    if not len(events[0]):
        raise ValueError(
            f"min_rating={min_rating} and min_user_events={min_user_events} leave no rating; lower them."
        )
    return interactions_from_events(*events)


def _read_tab(source: Path):
    """Read 100k: tab-separated events, films with one 0/1 column a genre."""
    with open_member(source, "u.data") as lines:
        events = _events(lines, "\t")
    with open_member(source, "u.genre") as lines:
        names = [line.partition("|")[0] for line in lines if "|" in line]
    films = []
    with open_member(source, "u.item", "latin-1") as lines:
        for line in lines:
            item, title, *rest = line.rstrip("\r\n").split("|")
            flags = rest[-len(names) :]
            films.append(
                (int(item), title, tuple(n for n, flag in zip(names, flags, strict=True) if flag == "1"))
            )
    return events, films


def _read_dat(source: Path):
    """Read 1m and 10m: fields between double colons."""
    with open_member(source, "ratings.dat") as lines:
        events = _events((line.replace("::", ",") for line in lines), ",")
    films = []
    for line in _lines_of(source, "movies.dat"):
        item, rest = line.split("::", 1)
        title, genres = rest.rsplit("::", 1)
        films.append((int(item), title, _genres(genres)))
    return events, films


def _lines_of(source: Path, member: str) -> list[str]:
    """Read a text file in UTF-8 where it is that (10m) and in Latin-1 where not (1m)."""
    try:
        with open_member(source, member, "utf-8") as lines:
            return lines.read().splitlines()
    except UnicodeDecodeError:
        with open_member(source, member, "latin-1") as lines:
            return lines.read().splitlines()


def _read_csv(source: Path):
    """Read 20m and later, and latest: comma-separated with a header."""
    with open_member(source, "ratings.csv") as lines:
        header = next(lines, "").strip()
        if header != "userId,movieId,rating,timestamp":
            raise ValueError(
                f"ratings.csv begins with {header!r} instead of 'userId,movieId,rating,timestamp'"
            )
        events = _events(lines, ",")
    with open_member(source, "movies.csv") as lines:
        rows = csv.reader(lines)
        next(rows)
        films = [(int(item), title, _genres(genres)) for item, title, genres in rows]
    return events, films


def _read_parquet(source: Path):
    """Read a parquet copy; `position` stands in for the time where there is none."""
    columns = read_parquet(source, ("user", "item", "rating", "timestamp", "position"))
    times = columns["timestamp" if "timestamp" in columns else "position"].astype(np.int64)
    rating = columns["rating"].astype(np.float32)
    events = (columns["user"].astype(np.int64), columns["item"].astype(np.int64), times, rating)
    films = []
    beside = source.with_name(f"{source.stem}-items.parquet")
    if beside.exists():
        columns = read_parquet(beside, ("item",))
        genres = map(_genres, columns["genres"]) if "genres" in columns else [None] * len(columns["item"])
        films = list(zip(columns["item"].tolist(), columns["title"].tolist(), genres, strict=True))
    return events, films


def _events(lines, delimiter: str):
    """Parse user, item, rating, time."""
    lines = iter(lines)
    first = next(lines, None)
    if first is None:
        raise ValueError("it holds no rating")
    kind = [("user", np.int64), ("item", np.int64), ("rating", np.float32), ("time", np.int64)]
    table = np.loadtxt(chain([first], lines), dtype=kind, delimiter=delimiter, comments=None, ndmin=1)
    return table["user"], table["item"], table["time"], table["rating"]


def _genres(text: str) -> tuple[str, ...]:
    return () if text == "(no genres listed)" else tuple(text.strip().split("|"))
