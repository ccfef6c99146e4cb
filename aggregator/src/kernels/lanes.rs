//! Eight f32 at a time, for loops that compilers do not turn into such instructions by themselves.

use pulp::NullaryFnOnce;

/// Numbers that are worked on at once: on every machine, so that the order of sums is the same.
pub(super) const LANES: usize = 8;

/// Instructions on eight numbers.
pub(super) trait Lanes: Copy {
    /// Eight numbers in a register.
    type Vector: Copy;

    fn load(self, values: &[f32; LANES]) -> Self::Vector;
    fn store(self, vector: Self::Vector) -> [f32; LANES];
    /// a · b + c, rounded once.
    fn mul_add(self, a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector;
    /// The lower of each two numbers, and the higher: both of them, also if they are equal.
    fn sort(self, a: Self::Vector, b: Self::Vector) -> (Self::Vector, Self::Vector);
}

/// What is to be done with them.
pub(super) trait OnLanes {
    fn run<L: Lanes>(self, lanes: L);
}

/// Does it, with the widest instructions that this processor has.
pub(super) fn run_on_lanes(work: impl OnLanes) {
    #[cfg(target_arch = "x86_64")]
    if let Some(lanes) = pulp::x86::V3::try_new() {
        return lanes.vectorize(Work { lanes, work });
    }
    pulp::Arch::new().dispatch(Work {
        lanes: Portable,
        work,
    });
}

/// Not a closure: the compiler does not inline those into code for other instructions.
struct Work<L, W> {
    lanes: L,
    work: W,
}

impl<L: Lanes, W: OnLanes> NullaryFnOnce for Work<L, W> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        self.work.run(self.lanes);
    }
}

#[cfg(target_arch = "x86_64")]
impl Lanes for pulp::x86::V3 {
    type Vector = std::arch::x86_64::__m256;

    #[inline(always)]
    fn load(self, values: &[f32; LANES]) -> Self::Vector {
        pulp::cast(*values)
    }

    #[inline(always)]
    fn store(self, vector: Self::Vector) -> [f32; LANES] {
        pulp::cast(vector)
    }

    #[inline(always)]
    fn mul_add(self, a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector {
        self.fma._mm256_fmadd_ps(a, b, c)
    }

    #[inline(always)]
    fn sort(self, a: Self::Vector, b: Self::Vector) -> (Self::Vector, Self::Vector) {
        // Of equal ones, these instructions give the second.
        (self.avx._mm256_min_ps(b, a), self.avx._mm256_max_ps(a, b))
    }
}

/// For all other machines: the same results, as fast as the compiler makes it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Portable;

impl Lanes for Portable {
    type Vector = [f32; LANES];

    #[inline(always)]
    fn load(self, values: &[f32; LANES]) -> Self::Vector {
        *values
    }

    #[inline(always)]
    fn store(self, vector: Self::Vector) -> [f32; LANES] {
        vector
    }

    #[inline(always)]
    fn mul_add(self, a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector {
        std::array::from_fn(|lane| a[lane].mul_add(b[lane], c[lane]))
    }

    #[inline(always)]
    fn sort(self, mut a: Self::Vector, mut b: Self::Vector) -> (Self::Vector, Self::Vector) {
        for (a, b) in a.iter_mut().zip(&mut b) {
            // Selections, not `min` and `max`: what those make of -0 and +0 is left open.
            (*a, *b) = if *b < *a { (*b, *a) } else { (*a, *b) };
        }
        (a, b)
    }
}
