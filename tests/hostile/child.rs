//! One run of the command line, with what it used.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::cases::{Beside, Case};

/// How a run ended.
#[derive(Debug)]
pub struct Outcome {
    /// `None` where a signal ended it.
    pub code: Option<i32>,
    pub elapsed: Duration,
    /// How long processors worked for it, in user and in kernel mode.
    pub worked: Duration,
    /// The most bytes that were resident.
    pub memory: u64,
    /// What it wrote to stderr.
    pub talk: String,
}

/// A folder with a model and what lies beside it, gone when dropped.
pub struct Sandbox(PathBuf);

impl Sandbox {
    pub fn new(case: &Case) -> Self {
        let name = format!("kiln-hostile-{}-{}", std::process::id(), case.name.replace('/', "-"));
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).expect("the temporary folder is writable");
        fs::write(folder.join("model.onnx"), &case.model).expect("writable");
        for beside in &case.beside {
            match beside {
                Beside::File(name, bytes) => fs::write(folder.join(name), bytes),
                Beside::Link(name, target) => symlink(target, folder.join(name)),
                Beside::Fifo(name) => {
                    Command::new("mkfifo").arg(folder.join(name)).status().map(drop)
                }
            }
            .expect("writable");
        }
        Sandbox(folder)
    }

    /// Runs the model; what is not done after `patience` is killed.
    #[expect(clippy::zombie_processes, reason = "`reap` waits, and learns what it used")]
    pub fn run(&self, patience: Duration) -> Outcome {
        let errors = self.0.join("stderr");
        // A last resort that keeps a fault from taking the whole machine down.
        let child = Command::new("sh")
            .args(["-c", "ulimit -v 8388608; exec \"$0\" run model.onnx --threads 1"])
            .arg(env!("CARGO_BIN_EXE_kiln"))
            .current_dir(&self.0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&errors).expect("writable"))
            .spawn()
            .expect("the command line was built");
        let started = Instant::now();
        let mut killed = false;
        loop {
            if let Some((code, worked, memory)) = reap(child.id()) {
                let elapsed = started.elapsed();
                let talk = String::from_utf8_lossy(&fs::read(&errors).unwrap_or_default()).into();
                return Outcome { code, elapsed, worked, memory, talk };
            }
            if !killed && started.elapsed() > patience {
                kill(child.id());
                killed = true;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The exit code, the work and the peak memory of a child that has ended; `None` while it runs.
#[allow(unsafe_code)]
fn reap(pid: u32) -> Option<(Option<i32>, Duration, u64)> {
    let mut status = 0;
    // SAFETY: `rusage` is plain data, for which zeros are valid.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    let pid = pid as libc::pid_t;
    // SAFETY: both pointers are valid for writes during the call, and the child is our own.
    let ended = unsafe { libc::wait4(pid, &mut status, libc::WNOHANG, &mut usage) };
    assert!(ended >= 0, "the child is ours to wait for");
    let code = libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status));
    let unit = if cfg!(target_os = "macos") { 1 } else { 1024 };
    let time = |t: libc::timeval| Duration::new(t.tv_sec as u64, t.tv_usec as u32 * 1000);
    let worked = time(usage.ru_utime) + time(usage.ru_stime);
    (ended == pid).then_some((code, worked, usage.ru_maxrss as u64 * unit))
}

#[allow(unsafe_code)]
fn kill(pid: u32) {
    // SAFETY: the child has not been waited for, so its number is not used again.
    unsafe { libc::kill(pid as libc::pid_t, libc::SIGKILL) };
}
