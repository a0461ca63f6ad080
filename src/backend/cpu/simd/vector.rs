//! The vectors that the convolution kernel is generic over: AVX-512, AVX2 with FMA, and arrays that the compiler
//! vectorises itself, which is how NEON and plain SSE2 are served.

/// A register of f32.
///
/// # Safety
/// Methods may only be called on a processor that has the instructions; `load` and `store` touch `LANES` elements,
/// `splat` one, and do not need alignment.
pub unsafe trait Vector: Copy {
    /// Elements.
    const LANES: usize;
    /// All 0.
    ///
    /// # Safety
    /// See the trait.
    unsafe fn zero() -> Self;
    /// `LANES` elements.
    ///
    /// # Safety
    /// See the trait.
    unsafe fn load(from: *const f32) -> Self;
    /// One element in all lanes.
    ///
    /// # Safety
    /// See the trait.
    unsafe fn splat(from: *const f32) -> Self;
    /// `LANES` elements.
    ///
    /// # Safety
    /// See the trait.
    unsafe fn store(self, to: *mut f32);
    /// `self + a * b`, rounded once where the processor can.
    ///
    /// # Safety
    /// See the trait.
    unsafe fn fma(self, a: Self, b: Self) -> Self;
    /// Lane by lane.
    ///
    /// # Safety
    /// See the trait.
    unsafe fn add(self, other: Self) -> Self;
    /// Asks for the cache line there, which need not exist.
    fn prefetch(at: *const f32);
    /// max(self, 0); 0 for NaN, as the specification has it.
    ///
    /// # Safety
    /// See the trait.
    unsafe fn relu(self) -> Self;
}

/// One implementation from an instruction set's intrinsics.
#[cfg(target_arch = "x86_64")]
macro_rules! vector {
    ($(#[$doc:meta])* $name:ident, $register:ty, $lanes:literal, $zero:ident, $load:ident, $set:ident, $store:ident,
     $fma:ident, $add:ident, $max:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy)]
        pub struct $name($register);

        // SAFETY: each method is one instruction of the set; callers have checked that the processor has it, and
        // vouch for their pointers.
        unsafe impl Vector for $name {
            const LANES: usize = $lanes;
            #[inline(always)]
            fn prefetch(at: *const f32) {
                // SAFETY: a hint that every x86-64 has; it reads nothing.
                unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
            }
            #[inline(always)]
            // SAFETY: see the impl.
            unsafe fn zero() -> Self {
                // SAFETY: see the impl.
                unsafe { Self($zero()) }
            }
            #[inline(always)]
            // SAFETY: see the impl.
            unsafe fn load(from: *const f32) -> Self {
                // SAFETY: see the impl.
                unsafe { Self($load(from)) }
            }
            #[inline(always)]
            // SAFETY: see the impl.
            unsafe fn splat(from: *const f32) -> Self {
                // SAFETY: see the impl.
                unsafe { Self($set(*from)) }
            }
            #[inline(always)]
            // SAFETY: see the impl.
            unsafe fn store(self, to: *mut f32) {
                // SAFETY: see the impl.
                unsafe { $store(to, self.0) }
            }
            #[inline(always)]
            // SAFETY: see the impl.
            unsafe fn fma(self, a: Self, b: Self) -> Self {
                // SAFETY: see the impl.
                unsafe { Self($fma(a.0, b.0, self.0)) }
            }
            #[inline(always)]
            // SAFETY: see the impl.
            unsafe fn add(self, other: Self) -> Self {
                // SAFETY: see the impl.
                unsafe { Self($add(self.0, other.0)) }
            }
            #[inline(always)]
            // SAFETY: see the impl.
            unsafe fn relu(self) -> Self {
                // SAFETY: see the impl. The second operand is what `max` gives for NaN.
                unsafe { Self($max(self.0, $zero())) }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::Vector;

    vector!(
        /// 16 lanes.
        Avx512, __m512, 16, _mm512_setzero_ps, _mm512_loadu_ps, _mm512_set1_ps, _mm512_storeu_ps, _mm512_fmadd_ps,
        _mm512_add_ps, _mm512_max_ps
    );
    vector!(
        /// 8 lanes.
        Avx2, __m256, 8, _mm256_setzero_ps, _mm256_loadu_ps, _mm256_set1_ps, _mm256_storeu_ps, _mm256_fmadd_ps,
        _mm256_add_ps, _mm256_max_ps
    );
}

#[cfg(target_arch = "x86_64")]
pub use x86::{Avx2, Avx512};

/// 8 lanes that the compiler maps to whatever the target has.
#[derive(Clone, Copy)]
pub struct Portable([f32; 8]);

impl Portable {
    #[inline(always)]
    fn zip(self, other: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        let mut out = self;
        for (a, b) in out.0.iter_mut().zip(other.0) {
            *a = f(*a, b);
        }
        out
    }
}

// SAFETY: plain Rust, so that every processor has the instructions; callers vouch for their pointers.
unsafe impl Vector for Portable {
    const LANES: usize = 8;
    #[inline(always)]
    fn prefetch(_: *const f32) {}
    #[inline(always)]
    // SAFETY: nothing to uphold.
    unsafe fn zero() -> Self {
        Self([0.0; 8])
    }
    #[inline(always)]
    // SAFETY: see the trait.
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller vouches for LANES elements; the read is unaligned.
        Self(unsafe { from.cast::<[f32; 8]>().read_unaligned() })
    }
    #[inline(always)]
    // SAFETY: see the trait.
    unsafe fn splat(from: *const f32) -> Self {
        // SAFETY: the caller vouches for one element.
        Self([unsafe { *from }; 8])
    }
    #[inline(always)]
    // SAFETY: see the trait.
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller vouches for LANES elements; the write is unaligned.
        unsafe { to.cast::<[f32; 8]>().write_unaligned(self.0) }
    }
    #[inline(always)]
    // SAFETY: nothing to uphold.
    unsafe fn fma(self, a: Self, b: Self) -> Self {
        let product = a.zip(b, |a, b| a * b);
        // Without the instruction, `mul_add` is a slow call.
        if cfg!(any(target_arch = "aarch64", target_feature = "fma")) {
            let mut out = self;
            for (i, sum) in out.0.iter_mut().enumerate() {
                *sum = a.0[i].mul_add(b.0[i], *sum);
            }
            return out;
        }
        self.zip(product, |sum, p| sum + p)
    }
    #[inline(always)]
    // SAFETY: nothing to uphold.
    unsafe fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| a + b)
    }
    #[inline(always)]
    // SAFETY: nothing to uphold.
    unsafe fn relu(self) -> Self {
        self.zip(Self([0.0; 8]), |x, zero| if x > zero { x } else { zero })
    }
}
