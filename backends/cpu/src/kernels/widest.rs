//! One loop text, compiled for every width of vectors, run by the widest that the machine has.

/// Makes a function that runs its loop by the widest instructions that the machine has.
macro_rules! widest {
    (
        $(#[$doc:meta])*
        $vis:vis fn $name:ident($($arg:ident: $ty:ty),*) $(-> $out:ty)? = $text:ident
    ) => {
        $(#[$doc])*
        $vis fn $name($($arg: $ty),*) $(-> $out)? {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,fma")]
                fn avx512($($arg: $ty),*) $(-> $out)? {
                    $text($($arg,)* f32::mul_add)
                }
                #[target_feature(enable = "avx2,fma")]
                fn avx2($($arg: $ty),*) $(-> $out)? {
                    $text($($arg,)* f32::mul_add)
                }
                if is_x86_feature_detected!("avx512f") {
                    // SAFETY: the machine has AVX-512F, which was just asked.
                    #[allow(unsafe_code)]
                    return unsafe { avx512($($arg),*) };
                }
                if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                    // SAFETY: the machine has AVX2 and FMA, which was just asked.
                    #[allow(unsafe_code)]
                    return unsafe { avx2($($arg),*) };
                }
            }
            $text($($arg,)* |a, b, c| a * b + c)
        }
    };
}
pub(crate) use widest;
