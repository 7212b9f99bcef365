//! What this process uses and what this machine has.

use std::fs;

/// The value of a line `KEY: VALUE` of a file of the kernel.
fn line(file: &str, key: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    text.lines().find_map(|l| {
        let (name, value) = l.split_once(':')?;
        (name.trim() == key).then(|| value.trim().to_owned())
    })
}

fn kib(file: &str, key: &str) -> Option<f64> {
    line(file, key)?.split(' ').next()?.parse().ok()
}

/// Resident bytes now, in MiB.
pub fn rss_mb() -> Option<f64> {
    Some(kib("/proc/self/status", "VmRSS")? / 1024.0)
}

/// The most bytes that were ever resident, in MiB.
pub fn peak_rss_mb() -> Option<f64> {
    Some(kib("/proc/self/status", "VmHWM")? / 1024.0)
}

/// CPU time of all threads of this process, in milliseconds.
#[cfg(unix)]
pub fn cpu_ms() -> f64 {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    t.tv_sec as f64 * 1e3 + t.tv_nsec as f64 / 1e6
}

/// CPU time of all threads of this process: not measured here.
#[cfg(not(unix))]
pub fn cpu_ms() -> f64 {
    0.0
}

/// The name of the processor.
pub fn cpu() -> String {
    line("/proc/cpuinfo", "model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}

/// Cores that this process may use.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, Into::into)
}

/// Memory of the machine in MiB.
pub fn memory_mb() -> Option<u64> {
    Some((kib("/proc/meminfo", "MemTotal")? / 1024.0) as u64)
}

/// How many processes wanted to run over the last minute.
pub fn load() -> Option<f64> {
    fs::read_to_string("/proc/loadavg").ok()?.split(' ').next()?.parse().ok()
}

macro_rules! detect {
    ($detected:ident: $($name:tt)*) => {
        [$(($name, std::arch::$detected!($name))),*]
            .into_iter().filter(|(_, there)| *there).map(|(name, _)| name).collect()
    };
}

/// The instruction sets that kernels may use.
#[cfg(target_arch = "x86_64")]
pub fn features() -> Vec<&'static str> {
    detect!(
        is_x86_feature_detected:
        "sse4.1" "avx" "avx2" "fma" "f16c" "avxvnni" "avx512f" "avx512bw" "avx512vl" "avx512vnni"
        "avx512bf16" "avx512fp16"
    )
}

/// The instruction sets that kernels may use.
#[cfg(target_arch = "aarch64")]
pub fn features() -> Vec<&'static str> {
    detect!(is_aarch64_feature_detected: "neon" "fp16" "dotprod" "i8mm" "bf16" "sve")
}

/// The instruction sets that kernels may use.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub fn features() -> Vec<&'static str> {
    Vec::new()
}
