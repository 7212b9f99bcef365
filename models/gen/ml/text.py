"""Operators on strings, of ONNX and of com.microsoft."""

import itertools

import numpy as np

from .case import F32, F64, I32, I64, MS, STR, case, strings

TEXTS = strings(
    "Hello World",
    "İstanbul",
    "STRASSE straße",
    "",
    "ﬁne ǅ",
    "Σίσυφος ΟΔΥΣΣΕΥΣ",
    "naïve café",
    "日本語 テキスト",
    "😀 a\u0301",
)


def normalized(x, action, sensitive, stops):
    """What Python's tables of Unicode make of it; those of the C library change letter by letter."""
    words = x.ravel().tolist()
    plain = (lambda w: w) if sensitive else str.lower
    kept = [w for w in words if plain(w) not in {plain(s) for s in stops}] or [""]
    change = {"NONE": lambda w: w, "LOWER": str.lower, "UPPER": str.upper}[action]
    out = strings(*map(change, kept))
    return [out.reshape(1, -1) if x.ndim == 2 else out]


def normalizers():
    for action, sensitive, stops in itertools.product(
        ("NONE", "LOWER", "UPPER"), (0, 1), ([], ["hello world", "Straße", "istanbul", ""])
    ):
        attrs = {
            "case_change_action": action,
            "is_case_sensitive": sensitive,
            "stopwords": stops or None,
            "locale": "C.UTF-8",
        }
        name = f"normalize_{action}_{sensitive}_{len(stops)}"
        for label, x in (
            ("", TEXTS),
            ("_row", TEXTS[:3].reshape(1, 3)),
            ("_plain", strings("Hello", "hello world", "A b")),
        ):
            want = normalized(x, action, sensitive, stops)
            yield case(f"{name}{label}", "StringNormalizer", [x], [STR], domain="", version=10, want=want, **attrs)
    stopped = {"stopwords": ["a", "b"], "locale": "C.UTF-8"}
    yield case(
        "normalize_all_stopped", "StringNormalizer", [strings("a", "b")], [STR], domain="", version=10, **stopped
    )
    row = strings("a", "b").reshape(1, 2)
    yield case("normalize_row_stopped", "StringNormalizer", [row], [STR], domain="", version=10, **stopped)
    yield case("normalize_none", "StringNormalizer", [strings()], [STR], domain="", version=10, **stopped)


PATTERNS = (
    "", "a", "a*", "(a|b)+", "[a-c]{2,3}", r"\d+", r"\w+@\w+\.com", "^abc$", ".*", "(?i)ABC", "(?s).*", "a.b",
    r"\pL+", r"\p{Greek}+", "[[:alpha:]]+", "[^a]", r"\x{65e5}.*", "(?P<n>a)b", r"\Qa.b\E", "a{0}", "(?:ab){2}",
    r"\bab\b", r"\Aab\z", "(?m)^ab$", r"\C+", "(?U)a+b", r"[\d-]+", "a??", r"\.", r"\pN+", r"\p{^Greek}+",
    r"\P{^Greek}+", "[[:^alpha:]]+", r"\s+", "(?i)straße", "(?i)k", "[[:word:]]+", "a$", "x{1000}", r"\x41", r"\101",
    "a*?", r"\f\t\n\r\v", r"[a\]]+", "[]a]+", "[^]a]+", "[a-]+", "[--a]+", "[a-c-e]+", "{", "a{,2}", "a{2", "a{2,",
    "}", "(?-s).", "[a&&b]+", "[a--b]+", "[[a]b]+", r"\b", r"\B", "(?s-i:A).", "(?i:a)B", "|a", "(|a)*", r"[^\n]*",
    r"\D", r"\W", r"[^\D]", r"\p{Lu}", r"\p{L}", r"\Qa*", "(?mi)^A$", r"a\nb", r"\x{10ffff}", "(?i)Σ",
    r"[\x41-\x43]+", r"[\p{Greek}a]+", r"[^\p{Greek}]+", r"[\pL\d]+", "(?U)a*", "(?i)[^k]", "(?:a|ab)(?:c|bcd)(?:d*)",
)  # fmt: skip
SUBJECTS = strings(
    "", "a", "A", "ab", "AB", "abc", "ABC", "aab", "12", "me@x.com", "a.b", "a\nb", "日本", "Σίσυφος", "σ", "ς",
    "abab", "1-2", "aé", "é", "k", "\u212a", "straße", "STRASSE", " ", "\u00a0", "\t", "\f\t\n\r\x0b", "\n",
    "{", "}", "a{,2}", "a{2", "a{2,",
    "-", "]", "]a", "[", "&", "_", "B", "b-e", "a*",
    "x" * 1000, "😀", "١٢", "abcd", ".", "^",
)  # fmt: skip


def matching():
    for n, pattern in enumerate(PATTERNS):
        yield case(f"regex_{n}", "RegexFullMatch", [SUBJECTS], [np.bool_], domain="", version=20, pattern=pattern)
    x = strings("a", "ab", "b", "").reshape(2, 2)
    yield case("regex_shape", "RegexFullMatch", [x], [np.bool_], domain="", version=20, pattern="a.*")


def splitting():
    x = strings("a b c", " a  b ", "", "one", "a,b,,c", "\ta\nb", "a\u3000b\u00a0c", ",,")
    for by, most in itertools.product((None, "", " ", ",", ",,", "b"), (None, 1, 2)):
        yield case(
            f"split_{by}_{most}", "StringSplit", [x], [STR, I64], domain="", version=20, delimiter=by, maxsplit=most
        )
    yield case("split_table", "StringSplit", [x[:4].reshape(2, 2)], [STR, I64], domain="", version=20)
    yield case("split_empty", "StringSplit", [strings()], [STR, I64], domain="", version=20)
    yield case("concat", "StringConcat", [strings("a", "é"), strings("b", "")], [STR], domain="", version=20)
    yield case(
        "concat_wide",
        "StringConcat",
        [strings("a", "b").reshape(2, 1), strings("1", "2", "3")],
        [STR],
        domain="",
        version=20,
    )


def counting():
    pool = {"ngram_counts": [0, 3, 9], "ngram_indexes": [0, 1, 2, 3, 4, 5]}
    ints = {"pool_int64s": [2, 3, 5, 5, 4, 5, 6, 7, 8]} | pool
    words = {"pool_strings": list("cdffefghi")} | pool
    weights = {"weights": [0.5, 1.0, 2.0, 3.0, 4.0, 5.0]}
    table = np.array([[1, 1, 3, 3, 3, 7], [8, 6, 7, 5, 6, 8]])
    for mode, (low, high), skips, weighted in itertools.product(
        ("TF", "IDF", "TFIDF"), ((1, 1), (1, 2), (2, 2)), (0, 1, 5), (False, True)
    ):
        if high == 1 and skips:
            continue
        attrs = {"mode": mode, "min_gram_length": low, "max_gram_length": high, "max_skip_count": skips}
        attrs |= weights if weighted else {}
        label = f"{mode}_{low}_{high}_{skips}_{weighted}"
        for dtype in (I64, I32):
            yield case(
                f"tfidf_{label}_{np.dtype(dtype)}",
                "TfIdfVectorizer",
                [table.astype(dtype)],
                [F32],
                domain="",
                version=9,
                **attrs,
                **ints,
            )
        row = table.reshape(-1)
        yield case(f"tfidf_{label}_row", "TfIdfVectorizer", [row], [F32], domain="", version=9, **attrs, **ints)
        letters = np.array([["abcdefghijk"[i] for i in r] for r in table], object)
        yield case(f"tfidf_{label}_words", "TfIdfVectorizer", [letters], [F32], domain="", version=9, **attrs, **words)
    three = {"pool_int64s": [1, 2, 1, 2, 3, 3, 2, 1], "ngram_counts": [0, 0, 2], "ngram_indexes": [4, 1, 0]}
    attrs = {"mode": "TF", "min_gram_length": 3, "max_gram_length": 3, "max_skip_count": 2}
    x = np.array([[1, 9, 2, 9, 3, 2, 1]], I64)
    yield case("tfidf_three", "TfIdfVectorizer", [x], [F32], domain="", version=9, **attrs, **three)
    for shape in ((0,), (0, 3), (1,), (2, 0)):
        attrs = {"mode": "TF", "min_gram_length": 1, "max_gram_length": 2, "max_skip_count": 0}
        yield case(
            f"tfidf_shape_{shape}",
            "TfIdfVectorizer",
            [np.zeros(shape, I64)],
            [F32],
            domain="",
            version=9,
            **attrs,
            **ints,
        )


def tokenizers():
    x = strings("Hello, World foo", "a", "", "one  two\tthree", "日本 語x", "a-b-c")
    forms = {
        "chars": {"separators": [""]},
        "space": {"separators": [" "]},
        "many": {"separators": [" ", ",", "-", "\t"]},
        "class": {"separators": ["[, ]+"]},
        "tokens": {"tokenexp": "[a-zA-Z0-9_]+"},
        "pairs": {"tokenexp": r"\b\w\w+\b"},
        "wide": {"tokenexp": r"[\p{L}]+"},
    }
    for (form, attrs), mark, least in itertools.product(forms.items(), (0, 1), (1, 2)):
        given = attrs | {"mark": mark, "mincharnum": least, "pad_value": "#"}
        yield case(f"tokens_{form}_{mark}_{least}", "Tokenizer", [x], [STR], domain=MS, **given)
        table = x.reshape(2, 3)
        yield case(f"tokens_{form}_{mark}_{least}_table", "Tokenizer", [table], [STR], domain=MS, **given)
    yield case(
        "tokens_none", "Tokenizer", [strings()], [STR], domain=MS, separators=[" "], mark=0, mincharnum=1, pad_value="#"
    )


def hashing():
    for seed, positive in itertools.product((0, 42), (0, 1)):
        kind = np.uint32 if positive else I32
        for label, x in (
            ("words", strings("", "a", "ab", "abc", "abcd", "日本語 テキスト")),
            ("i32", np.array([0, -1, 2**31 - 1], I32)),
            ("i64", np.array([0, -1, 2**40], I64)),
            ("f32", np.array([0.0, -0.0, 1.5], F32)),
            ("f64", np.array([0.0, 1.5], F64)),
        ):
            yield case(
                f"hash_{label}_{seed}_{positive}", "MurmurHash3", [x], [kind], domain=MS, seed=seed, positive=positive
            )
    rng = np.random.default_rng(2)
    for metric, dtype in itertools.product(("euclidean", "sqeuclidean"), (F32, F64)):
        a, b = rng.normal(size=(3, 4)).astype(dtype), rng.normal(size=(5, 4)).astype(dtype)
        yield case(f"cdist_{metric}_{np.dtype(dtype)}", "CDist", [a, b], [dtype], domain=MS, metric=metric)
        yield case(f"cdist_same_{metric}_{np.dtype(dtype)}", "CDist", [a, a], [dtype], domain=MS, metric=metric)


def cases():
    for table in (normalizers, matching, splitting, counting, tokenizers, hashing):
        yield from table()
