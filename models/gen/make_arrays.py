"""Makes `models/arrays/`: NumPy files as NumPy writes them, for the tests of kiln's reader."""

import pathlib

import numpy as np

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "arrays"

COUNT = np.arange(6).reshape(2, 3)
ARRAYS = {code: COUNT.astype(code) for code in "b1 i1 i2 i4 i8 u1 u2 u4 u8 f2 f4 f8 c8 c16".split()}
ARRAYS |= {
    "big_i4": COUNT.astype(">i4"),
    "big_c8": (COUNT + 1j).astype(">c8"),
    "fortran": np.asfortranarray(COUNT.astype("f4")),
    "scalar": np.float64(2.5),
    "empty": np.zeros((0, 4), "f4"),
    "text": np.array([["a", "bcd"], ["", "\u00e9\u4e16\U0001f30d"]]),
    "big_text": np.array(["a", "bcd"]).astype(">U3"),
    "bytes": np.array([b"a", b"bcd"]),
    "objects": np.array([["x", "yy"], ["x", "z"]], dtype=object),
    "fortran_objects": np.asfortranarray(np.array([["x", "yy"], ["x", "z"]], dtype=object)),
    "numbers_as_objects": np.array([1, "x"], dtype=object),
}

if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    good = {name: array for name, array in ARRAYS.items() if name != "numbers_as_objects"}
    np.savez(FOLDER / "stored.npz", **good)
    np.savez_compressed(FOLDER / "deflated.npz", **good)
    np.save(FOLDER / "refused.npy", ARRAYS["numbers_as_objects"])
