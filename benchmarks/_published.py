"""Figures that papers print, none of them reproduced here: they stand beside ours under that label."""

from __future__ import annotations

LABEL = "published, not reproduced"

# By data set: k, and rows of (method, seen items, P, R, F, where); deviations as printed.
# TDM: Zhu et al., KDD 2018, table 2. JTM: Zhu et al., NeurIPS 2019, table 1. OTM: Zhuo et al., ICML 2020,
# table 3. DR: Gao et al., CIKM 2021, tables 1 and 2, which quote TDM's rows with seen items kept. It does not
# say what becomes of seen items in its own.
_NOT_SAID = "not said"
ACCURACY = {
    "ml-20m": (
        10,
        (
            ("Item-CF", "removed", "15.61", "8.86", "8.81", "TDM"),
            ("BPR-MF", "removed", "13.39", "6.95", "7.17", "TDM"),
            ("YouTube product-DNN", "removed", "16.51", "10.70", "10.04", "TDM"),
            ("TDM, attention DNN", "removed", "17.77", "12.31", "11.33", "TDM"),
            ("Item-CF", "kept", "8.25", "5.66", "5.29", "TDM, DR"),
            ("BPR-MF", "kept", "8.10", "5.09", "5.02", "TDM"),
            ("YouTube product-DNN", "kept", "11.87", "8.71", "7.96", "TDM, DR"),
            ("TDM, attention DNN", "kept", "14.06", "10.55", "9.49", "TDM, DR"),
            ("Deep Retrieval", _NOT_SAID, "20.58 ± 0.47", "10.89 ± 0.32", "12.32 ± 0.36", "DR"),
            ("brute force", _NOT_SAID, "20.70 ± 0.16", "10.96 ± 0.32", "12.38 ± 0.32", "DR"),
        ),
    ),
    "amazon-books": (
        200,
        (
            ("Item-CF", _NOT_SAID, "0.52", "8.18", "0.92", "JTM"),
            ("YouTube product-DNN", _NOT_SAID, "0.53", "8.26", "0.93", "JTM"),
            ("DNN, full scan", _NOT_SAID, "0.56", "8.57", "0.98", "JTM"),
            ("TDM", _NOT_SAID, "0.50", "7.49", "0.88", "JTM"),
            ("JTM", _NOT_SAID, "0.79", "12.45", "1.38", "JTM"),
            ("OTM, beam 400", _NOT_SAID, "1.06", "16.36", "1.86", "OTM"),
            ("Deep Retrieval", _NOT_SAID, "0.95 ± 0.01", "13.74 ± 0.14", "1.63 ± 0.02", "DR"),
            ("brute force", _NOT_SAID, "0.95", "13.75 ± 0.10", "1.63", "DR"),
        ),
    ),
}

# Deep Retrieval on Amazon Books (J=3, B=50): R@200 by K and D, items on the largest path by alpha, and
# milliseconds a user.
DEPTH = {(100, 2): 13.34, (100, 3): 13.74, (100, 4): 13.67, (1000, 2): 13.68}
LARGEST_PATH = {3e-9: 1948, 3e-8: 956, 3e-7: 459, 3e-6: 242}
MILLISECONDS = {"Deep Retrieval": 0.266, "brute force": 1.064}
