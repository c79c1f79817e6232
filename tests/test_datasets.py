import hashlib
import os
import re
import shutil
import threading
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from drlearn.datasets import _amazon, _movielens, fetch_amazon_books, fetch_movielens

DATA = Path(os.environ.get("DRLEARN_DATA", ""))
needs_data = pytest.mark.skipif(
    "DRLEARN_DATA" not in os.environ, reason="DRLEARN_DATA names no folder of data"
)


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Empty data folder, and nothing else to look in."""
    monkeypatch.delenv("DRLEARN_DATA", raising=False)
    return tmp_path


def local(name, home):
    return fetch_movielens(name, data_home=home, download_if_missing=False)


# ------------------------------------------------------------------ real files


def only(tmp_path, monkeypatch, *names):
    """Point DRLEARN_DATA at a folder with links to some of the real files."""
    for name in names:
        assert (DATA / name).exists(), f"{DATA / name} is missing"
        (tmp_path / Path(name).name).symlink_to((DATA / name).absolute())
    monkeypatch.setenv("DRLEARN_DATA", str(tmp_path))


@needs_data
def test_100k_raw_and_parquet_agree(tmp_path, monkeypatch):
    raw = local("100k", tmp_path)
    assert Path(raw.source).name == "ml-100k"
    only(tmp_path, monkeypatch, "ml-100k.parquet", "ml-100k-items.parquet")
    copy = local("100k", tmp_path)
    assert Path(copy.source).name == "ml-100k.parquet"
    assert raw.interactions.shape == (943, 1682)
    assert raw.interactions.n_events == 100_000
    assert raw.titles == copy.titles
    assert copy.genres == {}
    assert raw.genres[1] == ("Animation", "Children's", "Comedy")
    assert raw.titles[543] == "Misérables, Les (1995)"
    X, Y = raw.interactions, copy.interactions
    np.testing.assert_array_equal(X.indptr, Y.indptr)
    np.testing.assert_array_equal(X.times, Y.times)
    # Events of the same second may stand in another order.
    orders = [np.lexsort((Z.items, Z.times, np.repeat(np.arange(943), Z.lengths))) for Z in (X, Y)]
    for name in ("items", "weights"):
        np.testing.assert_array_equal(*(getattr(Z, name)[o] for Z, o in zip((X, Y), orders, strict=True)))


@needs_data
def test_latest_small_holds_what_its_readme_says():
    bunch = fetch_movielens("latest-small", download_if_missing=False)
    readme = (Path(bunch.source) / "README.txt").read_text(encoding="utf-8")
    n_ratings, n_users = (
        int(re.search(pattern, readme)[1]) for pattern in (r"(\d+) ratings", r"created by (\d+)")
    )
    X = bunch.interactions
    assert (X.n_events, X.n_users) == (n_ratings, n_users)
    assert set(X.item_ids.tolist()) <= set(bunch.titles)
    assert bunch.titles[11] == "American President, The (1995)"
    assert bunch.genres[1][0] == "Adventure"
    assert X.weights.min() == 0.5
    assert X.user_ids.dtype == X.item_ids.dtype == X.times.dtype == np.int64


@needs_data
def test_1m_by_the_papers_filter():
    bunch = fetch_movielens("1m", download_if_missing=False)
    X = bunch.interactions
    assert (X.n_events, X.n_users, X.n_items) == (1_000_209, 6_040, 3_706)
    liked = X.keep(X.weights >= 4).drop_empty(10)
    counts = liked.n_events, liked.n_users, np.count_nonzero(liked.item_counts())
    assert counts == (574_619, 5_950, 3_532)
    np.testing.assert_array_equal(X.times[: X.lengths[0]], np.arange(X.lengths[0]))
    assert bunch.titles[1] == "Toy Story (1995)"
    assert bunch.genres[1] == ("Animation", "Children's", "Comedy")


# ------------------------------------------------------------------ the formats, by hand

# User 20 comes first in the file, has a tie at 300 (film 7 before film 3), and no event in time order.
EVENTS = [(20, 7, 4.0, 300), (20, 3, 5.0, 300), (5, 3, 1.0, 50), (20, 9, 2.0, 100)]
FILMS = {3: "Amélie: a film", 7: "One, Two", 9: "Nine"}
GENRES = {3: ("Comedy",), 7: ("Drama", "War"), 9: ()}


def csv_files(ratings=EVENTS):
    lines = [f"{u},{i},{r},{t}" for u, i, r, t in ratings]
    films = ["3,Amélie: a film,Comedy", '7,"One, Two",Drama|War', "9,Nine,(no genres listed)"]
    return {
        "ratings.csv": "\n".join(["userId,movieId,rating,timestamp", *lines, ""]).encode(),
        "movies.csv": "\r\n".join(["movieId,title,genres", *films, ""]).encode(),
    }


def dat_files(encoding):
    films = ["3::Amélie: a film::Comedy", "7::One, Two::Drama|War", "9::Nine::(no genres listed)"]
    return {
        "ratings.dat": "".join(f"{u}::{i}::{r:g}::{t}\n" for u, i, r, t in EVENTS).encode(),
        "movies.dat": "".join(f"{film}\n" for film in films).encode(encoding),
    }


def tab_files():
    films = ["3|Amélie: a film|d||url|0|1|0|0", "7|One, Two|d||url|0|0|1|1", "9|Nine||||0|0|0|0"]
    return {
        "u.data": "".join(f"{u}\t{i}\t{r:g}\t{t}\n" for u, i, r, t in EVENTS).encode(),
        "u.item": "".join(f"{film}\n" for film in films).encode("latin-1"),
        "u.genre": b"unknown|0\nComedy|1\nDrama|2\nWar|3\n\n",
    }


def write(folder, files):
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def write_zip(path, folder, files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{folder}/README.txt", "about")
        for name, content in files.items():
            archive.writestr(f"{folder}/{name}", content)


def check_small(bunch):
    X = bunch.interactions
    assert X.user_ids.tolist() == [5, 20]
    assert [row.tolist() for row in X] == [[3], [9, 7, 3]]
    assert X.times.tolist() == [50, 100, 300, 300]
    assert X.weights.tolist() == [1, 2, 4, 5]
    assert X.item_ids.dtype == X.user_ids.dtype == np.int64
    assert bunch.titles == FILMS
    assert bunch.genres == GENRES
    assert "Harper" in bunch.DESCR


FORMATS = [
    ("100k", "ml-100k", tab_files()),
    ("1m", "ml-1m", dat_files("latin-1")),
    ("10m", "ml-10M100K", dat_files("utf-8")),
    ("20m", "ml-20m", csv_files()),
    ("25m", "ml-25m", csv_files()),
    ("32m", "ml-32m", csv_files()),
    ("latest-small", "ml-latest-small", csv_files()),
]


@pytest.mark.parametrize(("name", "folder", "files"), FORMATS, ids=[name for name, *_ in FORMATS])
@pytest.mark.parametrize("form", ["zip", "folder", "raw folder", "environment"])
def test_every_format_in_every_place(home, monkeypatch, name, folder, files, form):
    if form == "zip":
        write_zip(home / f"ml-{name}.zip", folder, files)
    else:
        write({"raw folder": home / "raw", "environment": home / "env"}.get(form, home) / folder, files)
    if form == "environment":
        monkeypatch.setenv("DRLEARN_DATA", str(home / "env"))
    bunch = local(name, home)
    check_small(bunch)
    assert bunch.name == f"movielens-{name}"
    assert Path(bunch.source).exists()


@pytest.mark.parametrize("time", ["timestamp", "position"])
def test_parquet(home, time):
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    columns = dict(zip(["user", "item", "rating", time], zip(*EVENTS, strict=True), strict=True))
    columns["user"] = pa.array(columns["user"], pa.int16())
    pq.write_table(pa.table(columns), home / "ml-1m.parquet")
    genres = ["Comedy", "Drama|War", "(no genres listed)"]
    items = pa.table({"item": list(FILMS), "title": list(FILMS.values()), "genres": genres})
    pq.write_table(items, home / "ml-1m-items.parquet")
    check_small(local("1m", home))
    columns["user"] = pa.array([None, *columns["user"].to_pylist()[1:]])
    pq.write_table(pa.table(columns), home / "ml-1m.parquet")
    with pytest.raises(OSError, match=r"damaged.*column 'user' has 1 missing value\(s\)"):
        local("1m", home)


def test_environment_goes_before_data_home_and_originals_before_copies(home, monkeypatch):
    write(home / "cache" / "ml-20m", csv_files())
    write(home / "env" / "raw" / "ml-20m", csv_files([(1, 3, 2.5, 7)]))
    (home / "env" / "ml-20m.parquet").write_bytes(b"never read")
    monkeypatch.setenv("DRLEARN_DATA", str(home / "env"))
    assert local("20m", home / "cache").interactions.n_events == 1
    monkeypatch.delenv("DRLEARN_DATA")
    check_small(local("20m", home / "cache"))


def test_the_papers_filters(home):
    # User 1 has one rating of 4 or more, user 2 has two, user 3 has three ratings and none of them.
    ratings = [(1, 3, 4.0, 1), (1, 7, 3.5, 2), (2, 7, 4.5, 1), (2, 3, 4.0, 2), (2, 9, 1.0, 3)]
    write(home / "ml-25m", csv_files([*ratings, *((3, film, 2.0, film) for film in FILMS)]))

    def filtered(**filters):
        X = fetch_movielens("25m", data_home=home, download_if_missing=False, **filters).interactions
        return {user: X[row].tolist() for row, user in enumerate(X.user_ids.tolist())}, X.item_ids.tolist()

    assert filtered(min_rating=4) == ({1: [3], 2: [7, 3]}, [3, 7])
    assert filtered(min_user_events=3) == ({2: [7, 3, 9], 3: [3, 7, 9]}, [3, 7, 9])
    assert filtered(min_rating=4, min_user_events=2) == ({2: [7, 3]}, [3, 7])
    with pytest.raises(ValueError, match="min_rating=5 and min_user_events=1 leave no rating"):
        filtered(min_rating=5)
    for bad, name in [({"min_rating": "4"}, "min_rating"), ({"min_user_events": 0}, "min_user_events")]:
        with pytest.raises(ValueError, match=f"{name} must be"):
            filtered(**bad)


def test_a_cut_down_20m_warns_of_its_counts(home, monkeypatch):
    ratings = [(user, film, 4.0, time) for user in (1, 2) for time, film in enumerate(range(10 + user))]
    write(home / "ml-20m", csv_files(ratings))
    both = "2 users, 12 items and 23 events are left, where .* 129,797 users, 20,709 items and 9,939,873"
    with pytest.warns(UserWarning, match=both):
        X = fetch_movielens("20m", min_rating=4, min_user_events=10, data_home=home).interactions
    assert X.lengths.tolist() == [11, 12]
    # Nothing is published of another filter, and nothing is said of the counts that are.
    fetch_movielens("20m", min_rating=4, min_user_events=11, data_home=home)
    monkeypatch.setitem(_movielens.PUBLISHED, ("20m", 4, 10), (2, 12, 23))
    fetch_movielens("20m", min_rating=4, min_user_events=10, data_home=home)


def test_zip_without_the_files(home):
    write_zip(home / "ml-20m.zip", "ml-20m", {})
    with pytest.raises(OSError, match=r"holds no ratings\.csv"):
        local("20m", home)


def test_columns_in_another_order_are_not_read_by_place(home):
    files = csv_files()
    files["ratings.csv"] = files["ratings.csv"].replace(b"userId,movieId", b"movieId,userId")
    write(home / "ml-20m", files)
    with pytest.raises(OSError, match=r"begins with 'movieId,userId,rating,timestamp'.*from_frame"):
        local("20m", home)


@pytest.mark.parametrize("damage", ["no zip", "cut zip", "letters", "cut line", "no genres", "empty"])
def test_a_damaged_file_is_named_and_what_to_do(home, damage):
    write_zip(home / "ml-1m.zip", "ml-1m", dat_files("latin-1"))
    whole, files = (home / "ml-1m.zip").read_bytes(), dat_files("latin-1")
    if damage == "no zip":
        (home / "ml-1m.zip").write_bytes(b"404 not found")
    elif damage == "cut zip":
        (home / "ml-1m.zip").write_bytes(whole[: len(whole) // 2])
    else:
        name = "movies.dat" if damage == "no genres" else "ratings.dat"
        files[name] = {
            "letters": files[name].replace(b"::", b"::x", 1), "cut line": files[name] + b"7::",
            "no genres": b"1::Toy Story (1995)\n", "empty": b"",
        }[damage]  # fmt: skip
        write_zip(home / "ml-1m.zip", "ml-1m", files)
    with pytest.raises(OSError, match=r"ml-1m\.zip is damaged or not .*fetch it again"):
        local("1m", home)


def test_unknown_name():
    with pytest.raises(ValueError, match=r"name must be one of .*'100k'.*; got 'ml-1m'"):
        fetch_movielens("ml-1m")


def test_not_found_says_where_it_looked(home):
    with pytest.raises(OSError, match=r"'ml-10M100K'.*DRLEARN_DATA") as error:
        local("10m", home)
    assert str(home) in str(error.value)


# ------------------------------------------------------------------ downloads


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Serve a folder on the loopback, in the place of GroupLens and SNAP."""
    folder = tmp_path / "server"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as http:
        thread = threading.Thread(target=partial(http.serve_forever, 0.01))
        thread.start()
        address = f"http://127.0.0.1:{http.server_address[1]}/"
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr(_movielens, "URL", address)
        monkeypatch.setattr(_amazon, "URL", address + _amazon.NAME)
        yield folder
        http.shutdown()
        thread.join()


def md5(path):
    return hashlib.md5(path.read_bytes()).hexdigest()


def pin(monkeypatch, name, checksum):
    release = _movielens.RELEASES[name]._replace(md5=checksum)
    monkeypatch.setitem(_movielens.RELEASES, name, release)


def test_download_against_a_fixed_checksum_is_kept(home, server, monkeypatch, capfd):
    write_zip(server / "ml-20m.zip", "ml-20m", csv_files())
    pin(monkeypatch, "20m", md5(server / "ml-20m.zip"))
    cache = home / "new" / "cache"
    bunch = fetch_movielens("20m", data_home=cache, verbose=False)
    check_small(bunch)
    assert capfd.readouterr() == ("", "")
    assert bunch.source == str(cache / "ml-20m.zip")
    shutil.rmtree(server)
    check_small(fetch_movielens("20m", data_home=cache))


def test_verbose_download_shows_progress(home, server, monkeypatch, capfd):
    write_zip(server / "ml-20m.zip", "ml-20m", csv_files())
    pin(monkeypatch, "20m", md5(server / "ml-20m.zip"))
    fetch_movielens("20m", data_home=home / "cache")
    assert "100%" in capfd.readouterr().err


@pytest.mark.parametrize("form", ["MD5 (ml-latest-small.zip) = {}\n", "{}  ml-latest-small.zip\n"])
def test_latest_small_is_checked_against_the_file_beside_it(home, server, form):
    write_zip(server / "ml-latest-small.zip", "ml-latest-small", csv_files())
    beside = server / "ml-latest-small.zip.md5"
    beside.write_text(form.format(md5(server / "ml-latest-small.zip")))
    check_small(fetch_movielens(data_home=home / "cache", verbose=False))
    beside.write_text(form.format("0" * 32))
    with pytest.raises(OSError, match="checksum other than the published one"):
        fetch_movielens(data_home=home / "other", verbose=False)
    beside.write_text("<html>not here</html>")
    with pytest.raises(OSError, match="holds no md5"):
        fetch_movielens(data_home=home / "other", verbose=False)
    assert not list((home / "other").glob("*.zip"))


def test_damaged_download_is_thrown_away(home, server):
    write_zip(server / "ml-1m.zip", "ml-1m", dat_files("latin-1"))
    with pytest.raises(OSError, match="checksum other than the published one") as error:
        fetch_movielens("1m", data_home=home / "cache", verbose=False)
    assert "ml-1m.zip" in str(error.value)
    assert not any((home / "cache").iterdir())


@pytest.mark.parametrize("name", ["1m", "latest-small"])
def test_missing_on_the_server(home, server, name):
    with pytest.raises(OSError, match=r"Could not download .*404.*DRLEARN_DATA"):
        fetch_movielens(name, data_home=home / "cache", verbose=False)


@pytest.mark.parametrize("name", ["1m", "latest-small"])
def test_offline(home, monkeypatch, name):
    monkeypatch.setattr(_movielens, "URL", "http://127.0.0.1:9/")
    for proxy in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(proxy, raising=False)
    with pytest.raises(OSError, match=rf"Could not download http://127.0.0.1:9/ml-{name}.zip .*put it into"):
        fetch_movielens(name, data_home=home / "cache", verbose=False)


# ------------------------------------------------------------------ Amazon Books

BOOKS = "B,002,5.0,30\nA,001,3.0,20\nB,001,1.0,10\nB,003,4.0,30\nC,004,5.0,5\n"


def test_amazon_books(home):
    (home / "raw").mkdir()
    (home / "raw" / "ratings_Books.csv").write_text(BOOKS)
    bunch = fetch_amazon_books(min_user_events=1, data_home=home, download_if_missing=False)
    X = bunch.interactions
    assert X.user_ids.tolist() == ["A", "B", "C"]
    assert [row.tolist() for row in X] == [["001"], ["001", "002", "003"], ["004"]]
    assert X.times.tolist() == [20, 10, 30, 30, 5]
    assert X.weights.tolist() == [3, 1, 5, 4, 5]
    filtered = fetch_amazon_books(min_user_events=2, data_home=home).interactions
    assert filtered.user_ids.tolist() == ["B"]
    assert filtered.item_ids.tolist() == ["001", "002", "003"]
    with pytest.raises(ValueError, match="min_user_events=10 leaves no user"):
        fetch_amazon_books(data_home=home)


def test_cut_down_amazon_books_warn_of_their_counts(home, monkeypatch):
    lines = [f"{user},{item:03},5.0,{item}" for user in "AB" for item in range(10)]
    (home / "ratings_Books.csv").write_text("\n".join([*lines, "C,001,5.0,1", ""]))
    both = r"2 users, 10 items and 20 events are left, where .* 294,739 users, 1,477,922 items and 8,654,619"
    with pytest.warns(UserWarning, match=both):
        X = fetch_amazon_books(data_home=home).interactions
    assert X.user_ids.tolist() == ["A", "B"]
    monkeypatch.setattr(_amazon, "PUBLISHED", (2, 10, 20))
    fetch_amazon_books(data_home=home)


def test_amazon_books_errors(home):
    with pytest.raises(OSError, match=r"Amazon Books is not on this machine.*ratings_Books\.csv"):
        fetch_amazon_books(data_home=home, download_if_missing=False)
    for value in [0, 2.0, True]:
        with pytest.raises(ValueError, match="min_user_events must be a positive integer"):
            fetch_amazon_books(min_user_events=value, data_home=home)
    for bad in ["D,005,5.0\n", "user,item,rating,timestamp\n"]:
        (home / "ratings_Books.csv").write_text(BOOKS + bad)
        with pytest.raises(ValueError, match="line 6: expected user,item,rating,timestamp"):
            fetch_amazon_books(data_home=home)
    (home / "ratings_Books.csv").write_text("")
    with pytest.raises(ValueError, match="leaves no user"):
        fetch_amazon_books(min_user_events=1, data_home=home)


def test_amazon_books_download(home, server, monkeypatch):
    (server / "ratings_Books.csv").write_text(BOOKS)
    with pytest.raises(OSError, match="checksum other than the published one"):
        fetch_amazon_books(data_home=home / "cache", verbose=False)
    monkeypatch.setattr(_amazon, "SHA256", hashlib.sha256(BOOKS.encode()).hexdigest())
    X = fetch_amazon_books(min_user_events=1, data_home=home / "cache", verbose=False).interactions
    assert X.n_events == 5
