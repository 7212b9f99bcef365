//! Opens a file below a folder, and never one outside of it.
//!
//! The check and the opening are one step: what is opened is what was checked, even if someone
//! renames folders or swaps symbolic links meanwhile. On Linux the kernel does it (`openat2`);
//! elsewhere, and on kernels without that call, the path is walked one component at a time.

use std::fs::File;
use std::io;
use std::path::Path;

/// Opens `tail`, a relative path without `..`, below `folder`, without waiting for a pipe's writer.
///
/// `Ok(None)` says that a symbolic link is in the way: always if it leads out of `folder`, and
/// where the path must be walked, whatever it leads to.
pub fn open(folder: &Path, tail: &Path) -> io::Result<Option<File>> {
    imp::open(folder, tail)
}

#[cfg(unix)]
mod imp {
    use std::os::fd::OwnedFd;

    use rustix::fs::{Mode, OFlags};
    use rustix::io::Errno;

    use super::{File, Path, io};

    const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
    const FILE: OFlags =
        OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);

    pub(super) fn open(folder: &Path, tail: &Path) -> io::Result<Option<File>> {
        let folder = rustix::fs::open(folder, FOLDER, Mode::empty())?;
        #[cfg(any(target_os = "linux", target_os = "android"))]
        match by_kernel(&folder, tail) {
            // Old kernels lack the call, and old sandboxes forbid it.
            Err(Errno::NOSYS | Errno::PERM) => (),
            done => return unless_link(done),
        }
        unless_link(by_walk(folder, tail))
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    pub(super) fn by_kernel(folder: &OwnedFd, tail: &Path) -> Result<OwnedFd, Errno> {
        use rustix::fs::ResolveFlags;
        const TRIES: usize = 8;
        let how = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let mut done = Err(Errno::AGAIN);
        for _ in 0..TRIES {
            done = rustix::fs::openat2(folder, tail, FILE, Mode::empty(), how);
            // The kernel gives up when something is renamed while it looks.
            if !matches!(done, Err(Errno::AGAIN | Errno::INTR)) {
                break;
            }
        }
        done
    }

    pub(super) fn by_walk(mut folder: OwnedFd, tail: &Path) -> Result<OwnedFd, Errno> {
        let mut parts = tail.components().peekable();
        while let Some(part) = parts.next() {
            let last = parts.peek().is_none();
            let flags = if last { FILE } else { FOLDER } | OFlags::NOFOLLOW;
            let next = rustix::fs::openat(&folder, part.as_os_str(), flags, Mode::empty())?;
            if last {
                return Ok(next);
            }
            folder = next;
        }
        Err(Errno::INVAL)
    }

    fn unless_link(done: Result<OwnedFd, Errno>) -> io::Result<Option<File>> {
        match done {
            Ok(fd) => Ok(Some(File::from(fd))),
            // Leads out; a link as the last component; a link (or a file) among the folders.
            Err(Errno::XDEV | Errno::LOOP | Errno::NOTDIR) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }
}

#[cfg(not(unix))]
mod imp {
    use super::{File, Path, io};

    // There is no way to do it in one step here: who can write the folder can win the race.
    pub(super) fn open(folder: &Path, tail: &Path) -> io::Result<Option<File>> {
        let real = folder.join(tail).canonicalize()?;
        if !real.starts_with(folder.canonicalize()?) {
            return Ok(None);
        }
        File::open(real).map(Some)
    }
}

#[cfg(all(test, any(target_os = "linux", target_os = "android")))]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use rustix::fs::{Mode, OFlags};
    use rustix::io::Errno;

    use super::*;

    #[test]
    fn the_kernel_and_the_walk_agree_but_for_links_that_stay_inside() {
        let root = tempfile::tempdir().expect("a folder");
        let folder = root.path().join("in");
        fs::create_dir_all(folder.join("sub")).expect("a folder");
        fs::write(root.path().join("secret"), b"s").expect("a file");
        fs::write(folder.join("sub/w"), b"w").expect("a file");
        symlink("../secret", folder.join("out")).expect("a link");
        symlink("/etc/hostname", folder.join("abs")).expect("a link");
        symlink("..", folder.join("up")).expect("a link");
        symlink("sub/w", folder.join("inside")).expect("a link");
        symlink("sub", folder.join("dir")).expect("a link");
        symlink("loop", folder.join("loop")).expect("a link");
        // path, what the kernel says, what the walk says
        let cases = [
            ("sub/w", Ok(()), Ok(())),
            ("none", Err(Errno::NOENT), Err(Errno::NOENT)),
            ("out", Err(Errno::XDEV), Err(Errno::LOOP)),
            ("abs", Err(Errno::XDEV), Err(Errno::LOOP)),
            ("up/secret", Err(Errno::XDEV), Err(Errno::NOTDIR)),
            ("loop", Err(Errno::LOOP), Err(Errno::LOOP)),
            ("sub/w/x", Err(Errno::NOTDIR), Err(Errno::NOTDIR)),
            ("inside", Ok(()), Err(Errno::LOOP)),
            ("dir/w", Ok(()), Err(Errno::NOTDIR)),
        ];
        let opened = || rustix::fs::open(&folder, OFlags::DIRECTORY, Mode::empty()).expect("open");
        for (path, kernel, walk) in cases {
            let got = imp::by_kernel(&opened(), Path::new(path)).map(drop);
            assert!(got == kernel || got == Err(Errno::NOSYS), "{path}: kernel says {got:?}");
            assert_eq!(imp::by_walk(opened(), Path::new(path)).map(drop), walk, "{path}");
        }
    }
}
