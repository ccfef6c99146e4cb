//! The sign test for small cohorts: an update must point to the side where the sum of the
//! other kept ones points. Exact, in integers.

use std::cmp::Ordering;

use super::gram::{Gram, Reason};

/// The test's one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SignTest {
    /// The smallest cosine accepted, in thousandths.
    pub(super) least_milli: i64,
}

/// Who of `kept` goes, and why. The worst goes first, since it bends the others' sum; those
/// with exactly the same cosine go together, so that the order plays no part.
pub(super) fn sign_test(gram: &Gram, kept: &[usize], test: SignTest) -> Vec<(usize, Reason)> {
    let mut kept = kept.to_vec();
    let mut dropped = Vec::new();
    loop {
        let cosines: Vec<Cosine> = kept.iter().map(|i| Cosine::of(gram, *i, &kept)).collect();
        let Some(worst) = cosines.iter().copied().min_by(Cosine::order) else {
            return dropped;
        };
        if worst.at_least(test.least_milli) {
            return dropped;
        }
        let goes = |cosine: &Cosine| cosine.order(&worst) == Ordering::Equal;
        let reason = Reason::Misaligned {
            cosine_milli: worst.milli(),
            least_milli: test.least_milli,
        };
        let (out, stay): (Vec<_>, Vec<_>) =
            kept.into_iter().zip(&cosines).partition(|(_, c)| goes(c));
        dropped.extend(out.into_iter().map(|(i, _)| (i, reason.clone())));
        kept = stay.into_iter().map(|(i, _)| i).collect();
    }
}

/// A cosine as a / √b with b > 0. With |a| ≤ 2²⁹ and b ≤ 2⁵⁸, products of two squares fit.
#[derive(Debug, Clone, Copy)]
struct Cosine {
    a: i128,
    b: i128,
}

impl Cosine {
    /// Of vector i and the sum of the others in `members`.
    fn of(gram: &Gram, i: usize, members: &[usize]) -> Self {
        let others: Vec<usize> = members.iter().copied().filter(|j| *j != i).collect();
        let a = i128::from(gram.row_sum(i, &others));
        let sum: i64 = others.iter().map(|j| gram.row_sum(*j, &others)).sum();
        let b = i128::from(gram.norm_squared(i)) * i128::from(sum);
        match (gram.norm_squared(i), sum) {
            // Nobody else says anything: there is nothing to contradict.
            (_, 0) => Self { a: 1, b: 1 },
            (0, _) => Self { a: 0, b: 1 },
            _ => Self { a, b },
        }
    }

    /// a² with the sign of a, over b: the cosine's order without its root.
    fn square(&self) -> i128 {
        self.a * self.a.abs()
    }

    fn order(&self, other: &Self) -> Ordering {
        (self.square() * other.b).cmp(&(other.square() * self.b))
    }

    fn at_least(&self, milli: i64) -> bool {
        let milli = i128::from(milli);
        self.square() * 1_000_000 >= milli * milli.abs() * self.b
    }

    /// In thousandths, rounded towards zero.
    fn milli(&self) -> i64 {
        let squared = self.square().unsigned_abs() * 1_000_000 / self.b.unsigned_abs();
        // At most 1,000, by Cauchy and Schwarz.
        let root = i64::try_from(squared.isqrt()).unwrap_or(1_000);
        if self.a < 0 { -root } else { root }
    }
}
