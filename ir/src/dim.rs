//! A length: an integer polynomial over symbols in one normal form.
//!
//! ```text
//! Dim  = sum of Term          sorted, no zero coefficients: `==` is algebraic equality
//! Term = coefficient * atoms  atoms sorted
//! Atom = symbol | floor(Dim, Dim) | max(Dim, Dim) | mul(Dim, Dim)
//! ```
//!
//! Products of many terms stay as they are, `mul(a,b)`: equality sees less there.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Add, Mul, Sub};
use std::sync::Arc;

/// A length that the caller picks at run time, or that the data decides (`?1`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sym(Arc<str>);

impl Sym {
    /// The symbol of this name.
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.0
    }
}

/// A length in normal form. Arithmetic saturates at the ends of `i64`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Dim(Vec<Term>);

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Term {
    atoms: Vec<Atom>,
    coefficient: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Atom {
    Sym(Sym),
    Floor(Box<Dim>, Box<Dim>),
    Max(Box<Dim>, Box<Dim>),
    /// A product that would have too many terms.
    Mul(Box<Dim>, Box<Dim>),
}

/// Terms that a product is multiplied out to.
const TERMS: usize = 64;
/// Symbols and numbers in a length that is still of use.
const PARTS: usize = 256;

impl Dim {
    /// The symbol of this name as a length.
    pub fn sym(name: &str) -> Self {
        Self::atom(Atom::Sym(Sym::new(name)))
    }

    fn atom(atom: Atom) -> Self {
        Self(vec![Term { atoms: vec![atom], coefficient: 1 }])
    }

    fn collect(terms: impl IntoIterator<Item = Term>) -> Self {
        let mut sum: BTreeMap<Vec<Atom>, i64> = BTreeMap::new();
        for t in terms {
            let c = sum.entry(t.atoms).or_default();
            *c = c.saturating_add(t.coefficient);
        }
        let keep = sum.into_iter().filter(|&(_, c)| c != 0);
        Self(keep.map(|(atoms, coefficient)| Term { atoms, coefficient }).collect())
    }

    /// The number, where no symbol is left.
    pub fn as_const(&self) -> Option<i64> {
        match &self.0[..] {
            [] => Some(0),
            [t] if t.atoms.is_empty() => Some(t.coefficient),
            _ => None,
        }
    }

    /// The number as a length, where no symbol is left and it is not negative.
    pub fn as_len(&self) -> Option<usize> {
        self.as_const().and_then(|n| usize::try_from(n).ok())
    }

    /// The symbol, where the length is one symbol and nothing else.
    pub fn as_sym(&self) -> Option<&Sym> {
        match &self.0[..] {
            [Term { atoms, coefficient: 1 }] => match &atoms[..] {
                [Atom::Sym(s)] => Some(s),
                _ => None,
            },
            _ => None,
        }
    }

    /// Whether its form shows that it is not negative, whatever lengths the symbols stand for.
    pub fn is_natural(&self) -> bool {
        let atom = |a: &Atom| match a {
            Atom::Sym(_) => true,
            Atom::Floor(a, b) | Atom::Mul(a, b) => a.is_natural() && b.is_natural(),
            Atom::Max(a, b) => a.is_natural() || b.is_natural(),
        };
        self.0.iter().all(|t| t.coefficient >= 0 && t.atoms.iter().all(atom))
    }

    /// `floor(self / by)`. Exact divisions and whole parts are pulled out of the floor.
    #[must_use]
    pub fn floor_div(&self, by: &Dim) -> Dim {
        match (self.as_const(), by.as_const()) {
            (_, Some(1)) => return self.clone(),
            (Some(a), Some(b)) if b != 0 => return floor(a, b).into(),
            _ => {}
        }
        if let Some(q) = self.exact_div(by) {
            return q;
        }
        match by.as_const() {
            Some(k) if k > 1 => self.floor_by(k),
            _ => Self::atom(Atom::Floor(Box::new(self.clone()), Box::new(by.clone()))),
        }
    }

    /// `floor(self / k)` for `k > 1`.
    fn floor_by(&self, k: i64) -> Dim {
        let (whole, rest): (Vec<Term>, Vec<Term>) =
            self.0.iter().cloned().partition(|t| t.coefficient % k == 0);
        let quotient = whole
            .into_iter()
            .map(|t| Term { coefficient: t.coefficient / k, atoms: t.atoms })
            .collect::<Vec<_>>();
        let mut rest = Dim(rest);
        let mut carry = 0;
        if let Some(first) = rest.0.first_mut().filter(|t| t.atoms.is_empty()) {
            carry = first.coefficient.div_euclid(k);
            first.coefficient = first.coefficient.rem_euclid(k);
        }
        let floor = rest.nested_floor(k);
        Dim(quotient) + carry.into() + floor
    }

    /// Merges `floor((floor(a / b) + c) / k)` into `floor((a + b*c) / (b*k))`.
    fn nested_floor(&self, k: i64) -> Dim {
        let (constant, atoms): (Vec<&Term>, Vec<&Term>) =
            self.0.iter().partition(|t| t.atoms.is_empty());
        if let [Term { atoms, coefficient: 1 }] = atoms[..]
            && let [Atom::Floor(a, b)] = &atoms[..]
            && let Some(b) = b.as_const()
        {
            let c = constant.first().map_or(0, |t| t.coefficient);
            let sum = (**a).clone() + Dim::from(b.saturating_mul(c));
            return sum.floor_div(&b.saturating_mul(k).into());
        }
        match self.as_const() {
            Some(c) => c.div_euclid(k).into(),
            None => Self::atom(Atom::Floor(Box::new(self.clone()), Box::new(k.into()))),
        }
    }

    /// `ceil(self / by)` for a positive number.
    #[must_use]
    pub fn ceil_div(&self, by: i64) -> Dim {
        (self.clone() + Dim::from(by.max(1) - 1)).floor_div(&by.max(1).into())
    }

    /// `self / by` where it leaves no remainder as polynomials; `by` is one term.
    pub fn exact_div(&self, by: &Dim) -> Option<Dim> {
        if self == by && !self.0.is_empty() {
            return Some(Dim::from(1i64));
        }
        let [divisor] = &by.0[..] else { return None };
        let parts = self.0.iter().map(|t| {
            let mut atoms = t.atoms.clone();
            for a in &divisor.atoms {
                atoms.remove(atoms.iter().position(|b| b == a)?);
            }
            let whole = t.coefficient.checked_rem(divisor.coefficient) == Some(0);
            let coefficient = t.coefficient.checked_div(divisor.coefficient)?;
            whole.then_some(Term { atoms, coefficient })
        });
        Some(Dim::collect(parts.collect::<Option<Vec<_>>>()?))
    }

    /// The larger of the two.
    #[must_use]
    pub fn larger(&self, other: &Dim) -> Dim {
        match (self.clone() - other.clone()).as_const() {
            Some(d) if d >= 0 => self.clone(),
            Some(_) => other.clone(),
            None => {
                let (a, b) = if self <= other { (self, other) } else { (other, self) };
                Self::atom(Atom::Max(Box::new(a.clone()), Box::new(b.clone())))
            }
        }
    }

    /// The number for given symbols; `None` where one is unknown or a divisor is 0.
    pub fn eval(&self, lookup: &dyn Fn(&Sym) -> Option<i64>) -> Option<i64> {
        self.0.iter().try_fold(0i64, |sum, t| {
            let product = t
                .atoms
                .iter()
                .try_fold(t.coefficient, |p, a| Some(p.saturating_mul(a.eval(lookup)?)))?;
            Some(sum.saturating_add(product))
        })
    }

    /// The length with known symbols put in.
    #[must_use]
    pub fn bind(&self, lookup: &dyn Fn(&Sym) -> Option<Dim>) -> Dim {
        self.0.iter().fold(Dim::default(), |sum, t| {
            let product = t.atoms.iter().fold(Dim::from(t.coefficient), |p, a| p * a.bind(lookup));
            sum + product
        })
    }

    /// Whether it has so many parts that calculating with it costs more than it tells.
    pub(crate) fn is_unwieldy(&self) -> bool {
        fn count(d: &Dim, left: usize) -> Option<usize> {
            d.0.iter().try_fold(left, |left, t| {
                t.atoms.iter().try_fold(left.checked_sub(1)?, |left, a| match a {
                    Atom::Sym(_) => left.checked_sub(1),
                    Atom::Floor(a, b) | Atom::Max(a, b) | Atom::Mul(a, b) => {
                        count(b, count(a, left)?)
                    }
                })
            })
        }
        count(self, PARTS).is_none()
    }

    /// Calls `f` for every symbol in it.
    pub fn symbols(&self, f: &mut dyn FnMut(&Sym)) {
        for a in self.0.iter().flat_map(|t| &t.atoms) {
            match a {
                Atom::Sym(s) => f(s),
                Atom::Floor(a, b) | Atom::Max(a, b) | Atom::Mul(a, b) => {
                    a.symbols(f);
                    b.symbols(f);
                }
            }
        }
    }
}

/// The floor of `a / b`, saturated; `b` is not 0.
fn floor(a: i64, b: i64) -> i64 {
    let below = a.wrapping_rem(b) != 0 && (a < 0) != (b < 0);
    a.saturating_div(b) - i64::from(below)
}

impl Atom {
    fn eval(&self, lookup: &dyn Fn(&Sym) -> Option<i64>) -> Option<i64> {
        match self {
            Atom::Sym(s) => lookup(s),
            Atom::Floor(a, b) => {
                let (a, b) = (a.eval(lookup)?, b.eval(lookup)?);
                (b != 0).then(|| floor(a, b))
            }
            Atom::Max(a, b) => Some(a.eval(lookup)?.max(b.eval(lookup)?)),
            Atom::Mul(a, b) => Some(a.eval(lookup)?.saturating_mul(b.eval(lookup)?)),
        }
    }

    fn bind(&self, lookup: &dyn Fn(&Sym) -> Option<Dim>) -> Dim {
        match self {
            Atom::Sym(s) => lookup(s).unwrap_or_else(|| Dim::atom(self.clone())),
            Atom::Floor(a, b) => a.bind(lookup).floor_div(&b.bind(lookup)),
            Atom::Max(a, b) => a.bind(lookup).larger(&b.bind(lookup)),
            Atom::Mul(a, b) => a.bind(lookup) * b.bind(lookup),
        }
    }
}

impl From<i64> for Dim {
    fn from(n: i64) -> Self {
        Dim(if n == 0 { vec![] } else { vec![Term { atoms: vec![], coefficient: n }] })
    }
}

impl From<usize> for Dim {
    fn from(n: usize) -> Self {
        i64::try_from(n).unwrap_or(i64::MAX).into()
    }
}

impl Add for Dim {
    type Output = Dim;
    fn add(self, rhs: Dim) -> Dim {
        Dim::collect(self.0.into_iter().chain(rhs.0))
    }
}

impl Sub for Dim {
    type Output = Dim;
    fn sub(self, rhs: Dim) -> Dim {
        self + rhs * Dim::from(-1i64)
    }
}

impl Mul for Dim {
    type Output = Dim;
    fn mul(self, rhs: Dim) -> Dim {
        if self.0.len().min(rhs.0.len()) > 1 && self.0.len() * rhs.0.len() > TERMS {
            let (a, b) = if self <= rhs { (self, rhs) } else { (rhs, self) };
            return Dim::atom(Atom::Mul(a.into(), b.into()));
        }
        let product = |a: &Term, b: &Term| {
            let mut atoms: Vec<Atom> = a.atoms.iter().chain(&b.atoms).cloned().collect();
            atoms.sort();
            Term { atoms, coefficient: a.coefficient.saturating_mul(b.coefficient) }
        };
        Dim::collect(self.0.iter().flat_map(|a| rhs.0.iter().map(move |b| product(a, b))))
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return write!(f, "0");
        }
        // The number last: `N + 1`, as one writes it.
        for (i, t) in self.0.iter().rev().enumerate() {
            let sign = if t.coefficient < 0 { "-" } else { "+" };
            match (i, sign) {
                (0, "+") => {}
                (0, _) => write!(f, "-")?,
                _ => write!(f, "{sign}")?,
            }
            write!(f, "{t}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n = self.coefficient.unsigned_abs();
        if self.atoms.is_empty() {
            return write!(f, "{n}");
        }
        if n != 1 {
            write!(f, "{n}*")?;
        }
        for (i, a) in self.atoms.iter().enumerate() {
            write!(f, "{}{a}", if i > 0 { "*" } else { "" })?;
        }
        Ok(())
    }
}

impl fmt::Display for Atom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Atom::Sym(s) => f.write_str(s.name()),
            Atom::Floor(a, b) => write!(f, "floor({a},{b})"),
            Atom::Max(a, b) => write!(f, "max({a},{b})"),
            Atom::Mul(a, b) => write!(f, "mul({a},{b})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(name: &str) -> Dim {
        Dim::sym(name)
    }

    fn n(n: i64) -> Dim {
        n.into()
    }

    #[test]
    fn equality_is_algebraic() {
        assert_eq!((s("a") + n(1)) * (s("a") - n(1)), s("a") * s("a") - n(1));
        assert_eq!(s("b") * s("a"), s("a") * s("b"));
        assert_eq!(s("a") - s("a"), n(0));
    }

    #[test]
    fn division() {
        let (n_, c, h) = (s("N"), s("C"), s("H"));
        let all = n_.clone() * c.clone() * h.clone();
        assert_eq!(all.floor_div(&(c * h)), n_);
        assert_eq!((n(4) * s("N") + n(6)).floor_div(&n(4)), s("N") + n(1));
    }

    #[test]
    fn floors_of_numbers() {
        for (a, b, want) in [
            (-3, 2, -2),
            (7, 2, 3),
            (7, -2, -4),
            (-7, -2, 3),
            (6, -2, -3),
            (0, -5, 0),
            (i64::MIN, -1, i64::MAX),
            (i64::MIN, 1, i64::MIN),
            (i64::MIN, 2, i64::MIN / 2),
            (i64::MAX, -1, -i64::MAX),
            (i64::MAX, i64::MIN, -1),
            (i64::MIN, i64::MAX, -2),
        ] {
            assert_eq!(n(a).floor_div(&n(b)), n(want), "{a} / {b}");
            let late = s("a").floor_div(&s("b"));
            let number = |s: &Sym| Some(if s.name() == "a" { a } else { b });
            assert_eq!(late.eval(&number), Some(want), "{a} / {b} at run time");
        }
        assert_eq!((n(i64::MIN) * s("N")).exact_div(&n(-1)), None);
        assert_eq!(s("N").exact_div(&n(0)), None);
        assert_eq!(n(5).floor_div(&n(0)).eval(&|_| None), None);
    }

    #[test]
    fn strided_convolutions_fold_into_one_floor() {
        let conv = |h: &Dim| (h.clone() + n(2) - n(3)).floor_div(&n(2)) + n(1);
        let twice = conv(&conv(&s("H")));
        assert_eq!(twice, (s("H") + n(3)).floor_div(&n(4)));
        for h in 1..300 {
            let step = |h: i64| (h - 1).div_euclid(2) + 1;
            assert_eq!(twice.eval(&|_| Some(h)), Some(step(step(h))));
        }
    }

    #[test]
    fn natural_forms() {
        assert!(((s("N") + n(1)).floor_div(&n(2)) * s("M")).is_natural());
        assert!((s("N") - n(1)).larger(&n(0)).is_natural());
        assert!(!(s("N") - n(1)).is_natural());
        assert!(!(s("N") - n(1)).floor_div(&n(2)).is_natural());
    }

    #[test]
    fn large_products_stay_products() {
        let sum = |of: &str| (0..9).fold(n(0), |d, i| d + s(&format!("{of}{i}")));
        let product = sum("a") * sum("b");
        assert!(product.to_string().starts_with("mul("), "{product}");
        assert_eq!(product, sum("b") * sum("a"));
        assert_eq!(product.exact_div(&(sum("a") * sum("b"))), Some(n(1)));
        let value = |s: &Sym| Some(if s.name().starts_with('a') { 2 } else { 3 });
        assert_eq!(product.eval(&value), Some(18 * 27));
        assert_eq!(product.bind(&|s| value(s).map(Dim::from)), n(18 * 27));
        assert_eq!((sum("a") * n(2)).eval(&value), Some(36));
        let mut all = 0;
        product.symbols(&mut |_| all += 1);
        assert_eq!(all, 18);
        assert!(!product.is_unwieldy());
        let huge = (0..300).fold(n(1), |d, i| d * s(&format!("s{i}")));
        assert!(huge.is_unwieldy());
    }

    #[test]
    fn maxima_of_comparable_lengths_disappear() {
        assert_eq!((s("N") + n(2)).larger(&s("N")), s("N") + n(2));
        assert_eq!(s("N").larger(&s("M")), s("M").larger(&s("N")));
    }

    #[test]
    fn text() {
        assert_eq!((n(2) * s("N") - n(3)).to_string(), "2*N-3");
        assert_eq!((n(1) - s("N")).to_string(), "-N+1");
        assert_eq!(s("H").floor_div(&n(2)).to_string(), "floor(H,2)");
    }
}
