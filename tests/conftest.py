"""Plain asserts in what tests share get readable messages too."""

import pytest

pytest.register_assert_rewrite("contract")
