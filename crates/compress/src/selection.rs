//! The places of the k largest of a block.

/// Values in a block of the codecs that keep some of them.
pub(crate) const BLOCK: usize = 4_096;

/// Magnitudes that are passed over together if none of them is large enough.
const GROUP: usize = 64;

/// How many of `values` are kept if of a million `keep_ppm` are: at least one.
#[inline(always)]
pub(crate) fn kept_of(values: usize, keep_ppm: u32) -> usize {
    let kept = (values as u64 * u64::from(keep_ppm)).div_ceil(1_000_000);
    kept.max(1) as usize
}

/// The magnitude of a value as a number: of two finite values the larger has the larger one, and
/// what is not finite has a larger one still.
#[inline(always)]
pub(crate) fn magnitude(value: f32) -> i32 {
    (value.to_bits() & 0x7fff_ffff) as i32
}

/// Puts the places of the largest magnitudes into `places`, rising; of equal ones the first are
/// taken. `places` is no longer than `magnitudes`, which are not negative.
///
/// The least magnitude that is taken is found by halving its range, so that nearly all the work
/// is counting, which the compiler makes eight comparisons at once of: about 15 times a block.
#[inline(always)]
pub(crate) fn largest(magnitudes: &[i32], places: &mut [u16]) {
    let kept = places.len() as i32;
    // `kept` or more reach `least`, and `above` reach `certain`, which are no more than `kept`.
    let (mut least, mut certain, mut above) = (0, i64::from(most(magnitudes)) + 1, 0);
    while least + 1 < certain {
        let middle = i64::midpoint(least, certain);
        let count = count_from(magnitudes, middle as i32);
        if count >= kept {
            least = middle;
        }
        if count <= kept {
            (certain, above) = (middle, count);
        }
    }
    let (least, mut to_choose) = (least as i32, kept - above);
    let mut places = places.iter_mut();
    for (group, magnitudes) in magnitudes.chunks(GROUP).enumerate() {
        if most(magnitudes) < least {
            continue;
        }
        for (place, magnitude) in magnitudes.iter().enumerate() {
            if *magnitude < least {
                continue;
            }
            if i64::from(*magnitude) < certain {
                if to_choose == 0 {
                    continue;
                }
                to_choose -= 1;
            }
            if let Some(found) = places.next() {
                *found = (group * GROUP + place) as u16;
            }
        }
    }
}

/// How many are `least` or more.
#[inline(always)]
fn count_from(magnitudes: &[i32], least: i32) -> i32 {
    magnitudes.iter().map(|m| i32::from(*m >= least)).sum()
}

#[inline(always)]
fn most(magnitudes: &[i32]) -> i32 {
    magnitudes.iter().fold(0, |most, m| most.max(*m))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Sorts them all.
    fn naive(magnitudes: &[i32], kept: usize) -> Vec<u16> {
        let mut places: Vec<u16> = (0..magnitudes.len() as u16).collect();
        places.sort_by_key(|place| std::cmp::Reverse(magnitudes[usize::from(*place)]));
        places.truncate(kept);
        places.sort_unstable();
        places
    }

    proptest! {
        #[test]
        fn the_largest_are_those_of_a_sorted_list(
            magnitudes in prop::collection::vec(
                prop_oneof![0..4i32, any::<i32>().prop_map(|m| m & i32::MAX), Just(i32::MAX)],
                1..300,
            ),
            share in 0.0..1.0f64,
        ) {
            let kept = ((share * magnitudes.len() as f64) as usize).max(1);
            let mut places = vec![0; kept];
            largest(&magnitudes, &mut places);
            prop_assert_eq!(places, naive(&magnitudes, kept));
        }
    }

    #[test]
    fn at_least_one_is_kept_and_shares_are_rounded_up() {
        assert_eq!(kept_of(1, 100), 1);
        assert_eq!(kept_of(BLOCK, 10_000), 41);
        assert_eq!(kept_of(BLOCK, 500_000), 2_048);
    }
}
