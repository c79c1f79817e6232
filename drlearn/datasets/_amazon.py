"""Amazon Books: the ratings-only file of the 2014 Amazon product data."""

from __future__ import annotations

from array import array
from pathlib import Path

import numpy as np
from sklearn.utils import Bunch

from drlearn._checks import check_positive
from drlearn.datasets._files import (
    Counts,
    data_folders,
    download,
    find,
    interactions_from_events,
    missing,
    of_active_users,
    warn_unless_published,
)

NAME = "ratings_Books.csv"
URL = f"https://snap.stanford.edu/data/amazon/productGraph/categoryFiles/{NAME}"
# Nothing is published beside the file; this is what others who pin it have.
SHA256 = "87d923ddac2aacf40c1d0e0e056dbf4bf69c9c7d41852c6b434e781e759c0707"

PUBLISHED_MIN_USER_EVENTS, PUBLISHED = 10, Counts(294_739, 1_477_922, 8_654_619)

DESCR = f"""Amazon Books: book ratings by Amazon's customers, May 1996 to July 2014.
{URL}
The sets of the tree-based and Deep Retrieval papers keep the users with at least 10 ratings.
Cite: R. He and J. McAuley. 2016. Ups and Downs: Modeling the Visual Evolution of Fashion Trends with
One-Class Collaborative Filtering. WWW. J. McAuley, C. Targett, J. Shi and A. van den Hengel. 2015.
Image-based Recommendations on Styles and Substitutes. SIGIR."""


def fetch_amazon_books(
    *,
    min_user_events: int = 10,
    data_home: str | Path | None = None,
    download_if_missing: bool = True,
    verbose: bool = True,
) -> Bunch:
    """Load the Amazon Books ratings: from disk where they stand there, else from SNAP.

    ``ratings_Books.csv`` (user, item, rating, timestamp; no header) is looked for in the folder that the
    environment variable ``DRLEARN_DATA`` names, then in `data_home`; in each also in the subfolder ``raw``.

    Parameters
    ----------
    min_user_events : int, default=10
        Keep users with at least this many ratings. 10 is the papers' filter (JTM, Zhu et al. 2019, and Deep
        Retrieval after it: 294,739 users, 1,477,922 items, 8,654,619 events); 1 keeps all. What 10 leaves is
        compared with those numbers; where it differs, a warning names both.
    data_home : str or path, default=None
        Where the download (about 0.9 GB) is kept; the user's cache folder by default.
    download_if_missing : bool, default=True
        Whether to download what is not found.
    verbose : bool, default=True
        Show the progress of a download.

    Returns
    -------
    bunch : sklearn.utils.Bunch
        ``interactions`` : Interactions
            One row a user, in time order (ties as in the file); ids are Amazon's, ``times`` seconds since
            1970, ``weights`` the ratings (1 to 5). Items that the filter leaves without events are left out.
        ``name``, ``source``, ``DESCR`` : str
            The set, where it was read from, and what it is.

    Raises
    ------
    ValueError
        If `min_user_events` is no positive integer or leaves no user, or a line is not of the format.
    OSError
        If the file is not found and may not or cannot be downloaded, or arrives damaged.

    Examples
    --------
    >>> books = fetch_amazon_books().interactions  # doctest: +SKIP
    """
    check_positive(min_user_events, "min_user_events")
    folders = data_folders(data_home)
    source = find([NAME], folders)
    if source is None:
        if not download_if_missing:
            raise missing("Amazon Books", [NAME], folders)
        source = download(URL, folders[-1], f"sha256:{SHA256}", verbose)
    interactions = _read(source, min_user_events)
    if min_user_events == PUBLISHED_MIN_USER_EVENTS:
        warn_unless_published(f"{source}, users with {min_user_events} ratings", interactions, PUBLISHED)
    return Bunch(interactions=interactions, name="amazon-books", source=str(source), DESCR=DESCR)


def _read(source: Path, min_user_events: int):
    """Read and filter; ids are numbered on the way, so that no string is kept twice."""
    user_codes, item_codes, ratings, times = array("i"), array("i"), array("f"), array("q")
    users: dict[str, int] = {}
    items: dict[str, int] = {}
    with open(source, encoding="ascii", errors="replace") as lines:
        for number, line in enumerate(lines, 1):
            try:
                user, item, rating, time = line.split(",")
                ratings.append(float(rating))
                times.append(int(time))
                if not line.isascii():
                    raise ValueError("ids are ASCII")
            except (ValueError, OverflowError) as error:
                raise ValueError(
                    f"{source}, line {number}: expected user,item,rating,timestamp; got {line[:80]!r}."
                ) from error
            user_codes.append(users.setdefault(user, len(users)))
            item_codes.append(items.setdefault(item, len(items)))
    codes = np.frombuffer(user_codes, dtype=np.int32) if user_codes else np.empty(0, dtype=np.int32)
    keep = of_active_users(codes, min_user_events)
    if not keep.any():
        raise ValueError(f"min_user_events={min_user_events} leaves no user of {source}; lower it.")
    return interactions_from_events(
        np.array(list(users), dtype=object)[codes[keep]],
        np.array(list(items), dtype=object)[np.frombuffer(item_codes, dtype=np.int32)[keep]],
        np.frombuffer(times, dtype=np.int64)[keep],
        np.frombuffer(ratings, dtype=np.float32)[keep],
    )
