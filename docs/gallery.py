"""How examples/ is shown and run while the site is built."""

ORDER = ("first_steps", "beam_size", "alpha", "displays", "grid_search", "streaming", "serving", "movielens")


class Story:
    """Order of the examples; one that is not named comes last."""

    def __init__(self, folder):
        self.folder = folder

    def __call__(self, file_name):
        """Return what a file is sorted by."""
        name = file_name.removeprefix("plot_").removesuffix(".py")
        return (ORDER.index(name) if name in ORDER else len(ORDER)), name


def arguments(gallery, script):
    """Ask the MovieLens example for generated data: a build needs neither network nor minutes."""
    return ["generated"] if script["src_file"].endswith("plot_movielens.py") else []
