//! Tensor data kept in files beside the model.
//!
//! The model's text names the file, so it is not trusted: only regular files are read, only below
//! the model's folder or a root that the caller allows, and only as far as they go.

use std::collections::HashMap;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use kiln_ir::{Error, Result};

use crate::proto::{StringStringEntryProto, TensorProto};
use crate::{beneath, file};

/// External files of at least this many bytes are mapped instead of read.
const MAP_FROM: u64 = 64 << 10;

/// Finds the external data of one model; every file is opened once and shared.
///
/// Mapped files must not be changed while the bytes are used.
#[derive(Debug, Default)]
pub struct Resolver {
    folder: Option<PathBuf>,
    roots: Vec<PathBuf>,
    files: Mutex<HashMap<PathBuf, Bytes>>,
    given: AtomicU64,
}

/// Where a tensor's bytes are.
#[derive(Debug, PartialEq)]
struct Location<'a> {
    path: &'a str,
    offset: u64,
    length: Option<u64>,
}

impl Resolver {
    /// For a model that came from memory: external data is refused.
    pub fn in_memory() -> Self {
        Self::default()
    }

    /// For the model file at `model`: data lies in its folder.
    ///
    /// A symbolic link may lead into `roots` too, and in a Hugging Face cache into `blobs`.
    ///
    /// # Errors
    /// If `model` is relative and there is no current folder.
    pub fn beside(model: &Path, roots: &[PathBuf]) -> Result<Self> {
        let path = std::path::absolute(model).map_err(|e| Error::io(model, &e))?;
        let folder = path.parent().unwrap_or(&path).to_path_buf();
        // Links are relative to what a folder really is, so a link may name its own folder.
        let roots = [folder.clone()].into_iter().chain(blobs(&folder)).chain(roots.to_vec());
        Ok(Self {
            roots: roots.collect(),
            folder: Some(folder),
            files: Mutex::default(),
            given: AtomicU64::default(),
        })
    }

    /// The external bytes of `tensor`, a slice of the file that it names. Where no length is
    /// given, they go on to the end of the file. A checksum, if there is one, is not verified.
    /// Messages speak of the tensor as "it".
    ///
    /// # Errors
    /// *invalid* if the entry is malformed, leaves the allowed folders, names something that is no
    /// regular file, or reaches past the file's end; *unsupported* for a model from memory.
    pub fn bytes(&self, tensor: &TensorProto) -> Result<Bytes> {
        let location = Location::parse(&tensor.external_data)?;
        let bytes = location.slice(&self.file(location.path)?)?;
        self.given.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(bytes)
    }

    /// How many bytes it has given so far.
    pub fn given(&self) -> u64 {
        self.given.load(Ordering::Relaxed)
    }

    fn file(&self, location: &str) -> Result<Bytes> {
        let Some(folder) = &self.folder else {
            return Err(Error::unsupported(format!(
                "its data is in the file `{location}`, but the model came from memory"
            ))
            .help("load the model by its path"));
        };
        let tail = relative(location)?;
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bytes) = files.get(&tail) {
            return Ok(bytes.clone());
        }
        let bytes = self.read(folder, &tail)?;
        files.insert(tail, bytes.clone());
        Ok(bytes)
    }

    fn read(&self, folder: &Path, tail: &Path) -> Result<Bytes> {
        let shown = folder.join(tail);
        let failed =
            |e: io::Error| Error::io(&shown, &e).help("keep the model and its data files together");
        let opened = match beneath::open(folder, tail).map_err(failed)? {
            Some(file) => Some(file),
            None => self.open_real(&shown).map_err(failed)?,
        };
        let Some(file) = opened else {
            return Err(Error::invalid(format!(
                "external data {} is a link that leads out of the model's folder",
                shown.display()
            ))
            .help("copy the file into the model's folder, or allow the folder it leads to"));
        };
        let meta = file.metadata().map_err(failed)?;
        if !meta.is_file() {
            return Err(Error::invalid(format!(
                "external data {} is no regular file",
                shown.display()
            )));
        }
        file::contents(file, meta.len(), MAP_FROM).map_err(failed)
    }

    /// Opens what `path` really is, if that lies below an allowed root.
    fn open_real(&self, path: &Path) -> io::Result<Option<std::fs::File>> {
        let real = path.canonicalize()?;
        for root in &self.roots {
            // A root that does not exist allows nothing.
            let Ok(root) = root.canonicalize() else { continue };
            if let Ok(tail) = real.strip_prefix(&root)
                && tail != Path::new("")
                && let Some(file) = beneath::open(&root, tail)?
            {
                return Ok(Some(file));
            }
        }
        Ok(None)
    }
}

/// `.../snapshots/X[/...]` -> `.../blobs`, where a Hugging Face cache keeps its files.
fn blobs(folder: &Path) -> Option<PathBuf> {
    let snapshots = folder.ancestors().skip(1).find(|a| a.ends_with("snapshots"))?;
    Some(snapshots.parent()?.join("blobs"))
}

/// The location as a path that cannot leave the folder by its text.
fn relative(location: &str) -> Result<PathBuf> {
    let mut path = PathBuf::new();
    for part in Path::new(location).components() {
        match part {
            Component::Normal(part) => path.push(part),
            Component::CurDir => (),
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
                return Err(Error::invalid(format!(
                    "its data is at `{location}`, outside of the model's folder"
                ))
                .help("external data must be a relative path without `..`"));
            }
        }
    }
    if path.as_os_str().is_empty() || location.contains('\0') {
        return Err(Error::invalid(format!("its data is at {location:?}, which names no file")));
    }
    Ok(path)
}

impl<'a> Location<'a> {
    fn parse(entries: &'a [StringStringEntryProto]) -> Result<Self> {
        let mut found = HashMap::new();
        for entry in entries {
            let key = entry.key();
            let known = matches!(key, "location" | "offset" | "length" | "checksum" | "basepath");
            // ONNX Runtime adds entries about weights that it packed for itself.
            if !known && !key.starts_with("prepacked") {
                return Err(Error::invalid(format!("its external data has unknown key `{key}`")));
            }
            if found.insert(key, entry.value()).is_some() {
                return Err(Error::invalid(format!("its external data has `{key}` twice")));
            }
        }
        let number = |key| found.get(key).map(|text| parse_number(key, text)).transpose();
        let path = found.get("location").ok_or_else(|| {
            Error::invalid("its external data has no location").help("export the model again")
        })?;
        Ok(Self { path, offset: number("offset")?.unwrap_or(0), length: number("length")? })
    }

    fn slice(&self, file: &Bytes) -> Result<Bytes> {
        let size = file.len() as u64;
        let end = match self.length {
            Some(length) => self.offset.checked_add(length),
            None => Some(size),
        };
        match end.filter(|&end| self.offset <= end && end <= size) {
            Some(end) => Ok(file.slice(self.offset as usize..end as usize)),
            None => {
                let wanted = match self.length {
                    Some(length) => format!("{length} bytes"),
                    None => "data".into(),
                };
                Err(Error::invalid(format!(
                    "it needs {wanted} from byte {} of `{}`, which has {size} bytes",
                    self.offset, self.path
                ))
                .help("check that the data file is complete"))
            }
        }
    }
}

fn parse_number(key: &str, text: &str) -> Result<u64> {
    text.parse().map_err(|_| {
        Error::invalid(format!("the {key} of its external data is `{text}`, not a byte count"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(pairs: Entries) -> Vec<StringStringEntryProto> {
        let entry = |&(key, value): &(&str, &str)| StringStringEntryProto {
            key: Some(key.into()),
            value: Some(value.into()),
        };
        pairs.iter().map(entry).collect()
    }

    fn tensor(pairs: Entries) -> TensorProto {
        TensorProto { external_data: entries(pairs), ..Default::default() }
    }

    fn at(location: &str) -> TensorProto {
        tensor(&[("location", location)])
    }

    fn message(result: Result<Bytes>) -> String {
        let error = result.expect_err("an error");
        format!("{error}; {}", error.remedy().unwrap_or_default())
    }

    struct Place {
        root: tempfile::TempDir,
        model: PathBuf,
    }

    /// `model/m.onnx` with `model/sub/w` of ten bytes, and a secret outside.
    fn place() -> Place {
        let root = tempfile::tempdir().expect("a folder");
        let folder = root.path().join("model");
        std::fs::create_dir_all(folder.join("sub")).expect("a folder");
        std::fs::create_dir(root.path().join("elsewhere")).expect("a folder");
        std::fs::write(folder.join("sub/w"), b"0123456789").expect("a file");
        std::fs::write(root.path().join("elsewhere/w"), b"secret").expect("a file");
        Place { model: folder.join("m.onnx"), root }
    }

    impl Place {
        fn resolver(&self) -> Resolver {
            Resolver::beside(&self.model, &[]).expect("a resolver")
        }

        fn folder(&self) -> &Path {
            self.model.parent().expect("a folder")
        }
    }

    type Entries<'a> = &'a [(&'a str, &'a str)];

    #[test]
    fn slices_are_cut_where_the_entries_say() {
        let place = place();
        let cases: [(Entries, &[u8]); 9] = [
            (&[("location", "sub/w")], b"0123456789"),
            (&[("location", "./sub/./w")], b"0123456789"),
            (&[("location", "sub/w"), ("offset", "4")], b"456789"),
            (&[("location", "sub/w"), ("offset", "4"), ("length", "3")], b"456"),
            (&[("length", "2"), ("location", "sub/w")], b"01"),
            (&[("location", "sub/w"), ("offset", "10")], b""),
            (&[("location", "sub/w"), ("offset", "10"), ("length", "0")], b""),
            (&[("location", "sub/w"), ("checksum", "?"), ("basepath", "/x")], b"0123456789"),
            (&[("location", "sub/w"), ("prepacked_0", "..")], b"0123456789"),
        ];
        let resolver = place.resolver();
        for (pairs, want) in cases {
            assert_eq!(resolver.bytes(&tensor(pairs)).expect("bytes"), want, "{pairs:?}");
        }
    }

    #[test]
    fn malformed_entries_are_refused() {
        let place = place();
        let huge = u64::MAX.to_string();
        let w = ("location", "sub/w");
        let cases: [(Entries, &str); 16] = [
            (&[], "no location"),
            (&[("offset", "0")], "no location"),
            (&[("location", "")], "names no file"),
            (&[("location", ".")], "names no file"),
            (&[("location", "a\0b")], "names no file"),
            (&[w, w], "`location` twice"),
            (&[w, ("lenght", "3")], "unknown key `lenght`"),
            (&[w, ("offset", "-1")], "offset of its external data is `-1`"),
            (&[w, ("length", "-1")], "length of its external data is `-1`"),
            (&[w, ("offset", "1e3")], "not a byte count"),
            (&[w, ("offset", "99999999999999999999999")], "not a byte count"),
            (&[w, ("offset", "11")], "needs data from byte 11 of `sub/w`, which has 10 bytes"),
            (&[w, ("offset", "4"), ("length", "7")], "needs 7 bytes from byte 4"),
            (&[w, ("offset", &huge)], "which has 10 bytes"),
            (&[w, ("offset", "1"), ("length", &huge)], "which has 10 bytes"),
            (&[w, ("offset", &huge), ("length", &huge)], "which has 10 bytes"),
        ];
        let resolver = place.resolver();
        for (pairs, why) in cases {
            let got = message(resolver.bytes(&tensor(pairs)));
            assert!(got.contains(why), "{pairs:?}: {got:?} lacks {why:?}");
        }
    }

    #[test]
    fn paths_that_leave_the_folder_are_refused() {
        let place = place();
        let absolute = place.root.path().join("elsewhere/w");
        let cases = [
            "../elsewhere/w",
            "sub/../../elsewhere/w",
            "sub/../sub/w",
            "..",
            "/",
            "/etc/hostname",
            "//etc/hostname",
            absolute.to_str().expect("text"),
        ];
        for location in cases {
            let got = message(place.resolver().bytes(&at(location)));
            assert!(got.contains("outside of the model's folder"), "{location}: {got}");
        }
        let got = message(place.resolver().bytes(&at("sub/none")));
        assert!(got.contains("sub/none: No such file"), "{got}");
    }

    #[test]
    fn models_from_memory_have_no_files() {
        let got = message(Resolver::in_memory().bytes(&at("w")));
        assert!(got.contains("came from memory; load the model by its path"), "{got}");
    }

    #[test]
    fn a_file_is_read_once_and_shared() {
        let place = place();
        std::fs::write(place.folder().join("large"), vec![7; 100_000]).expect("a file");
        let resolver = place.resolver();
        for (name, other) in [("sub/w", "./sub/w"), ("large", "large")] {
            let first = resolver.bytes(&at(name)).expect("bytes");
            std::fs::remove_file(place.folder().join(name)).expect("removed");
            let second = resolver.bytes(&at(other)).expect("bytes, although the file is gone");
            assert_eq!(first.as_ptr(), second.as_ptr());
        }
    }

    #[cfg(unix)]
    mod unix {
        use std::fs;
        use std::os::unix::fs::symlink;

        use super::*;

        #[test]
        fn links_that_leave_the_allowed_folders_are_refused() {
            let place = place();
            let folder = place.folder();
            symlink("../elsewhere/w", folder.join("out")).expect("a link");
            symlink(place.root.path().join("elsewhere/w"), folder.join("abs")).expect("a link");
            symlink("../elsewhere", folder.join("dir")).expect("a link");
            symlink("..", folder.join("up")).expect("a link");
            symlink("out", folder.join("twice")).expect("a link");
            for location in ["out", "abs", "dir/w", "up/elsewhere/w", "twice"] {
                let got = message(place.resolver().bytes(&at(location)));
                assert!(got.contains("leads out of the model's folder"), "{location}: {got}");
                let allowed = [place.root.path().join("none"), place.root.path().join("elsewhere")];
                let resolver = Resolver::beside(&place.model, &allowed).expect("a resolver");
                assert_eq!(resolver.bytes(&at(location)).expect("allowed"), "secret");
            }
            // A root allows what is below it, not what merely begins like it.
            let near = [place.root.path().join("else")];
            fs::create_dir(&near[0]).expect("a folder");
            let resolver = Resolver::beside(&place.model, &near).expect("a resolver");
            assert!(message(resolver.bytes(&at("out"))).contains("leads out"));
            symlink("loop", folder.join("loop")).expect("a link");
            assert!(resolver.bytes(&at("loop")).is_err());
        }

        #[test]
        fn links_inside_the_folder_and_hard_links_are_followed() {
            let place = place();
            let folder = place.folder();
            symlink("sub/w", folder.join("near")).expect("a link");
            symlink(folder.join("sub/w"), folder.join("near_abs")).expect("a link");
            symlink("sub", folder.join("dir")).expect("a link");
            fs::hard_link(folder.join("sub/w"), folder.join("hard")).expect("a link");
            for location in ["near", "near_abs", "dir/w", "hard"] {
                let got = place.resolver().bytes(&at(location)).expect(location);
                assert_eq!(got, "0123456789", "{location}");
            }
        }

        #[test]
        fn only_regular_files_are_read() {
            let place = place();
            let fifo = place.folder().join("fifo");
            let made = std::process::Command::new("mkfifo").arg(&fifo).status().expect("mkfifo");
            assert!(made.success());
            let socket = place.folder().join("socket");
            let _socket = std::os::unix::net::UnixListener::bind(&socket).expect("a socket");
            symlink("/dev/zero", place.folder().join("zero")).expect("a link");
            let devices = [PathBuf::from("/dev")];
            let resolver = Resolver::beside(&place.model, &devices).expect("a resolver");
            for location in ["fifo", "sub", "zero"] {
                let got = message(resolver.bytes(&at(location)));
                assert!(got.contains("is no regular file"), "{location}: {got}");
            }
            assert!(resolver.bytes(&at("socket")).is_err());
        }

        #[test]
        fn the_hugging_face_cache_works_as_it_lies() {
            let root = tempfile::tempdir().expect("a folder");
            let repo = root.path().join("models--a--b");
            let snapshot = repo.join("snapshots/0123abc");
            fs::create_dir_all(snapshot.join("onnx")).expect("a folder");
            fs::create_dir(repo.join("blobs")).expect("a folder");
            fs::write(repo.join("blobs/aa"), b"model").expect("a file");
            fs::write(repo.join("blobs/bb"), b"data").expect("a file");
            fs::write(repo.join("secret"), b"secret").expect("a file");
            symlink("../../../blobs/aa", snapshot.join("onnx/m.onnx")).expect("a link");
            symlink("../../../blobs/bb", snapshot.join("onnx/m.onnx_data")).expect("a link");
            symlink("../../../secret", snapshot.join("onnx/bad")).expect("a link");
            symlink("../../blobs/bb", snapshot.join("m.onnx_data")).expect("a link");
            for model in ["onnx/m.onnx", "m.onnx"] {
                let resolver = Resolver::beside(&snapshot.join(model), &[]).expect("a resolver");
                assert_eq!(resolver.bytes(&at("m.onnx_data")).expect("data"), "data");
            }
            let nested = Resolver::beside(&snapshot.join("onnx/m.onnx"), &[]).expect("a resolver");
            assert!(message(nested.bytes(&at("bad"))).contains("leads out"));
        }
    }
}
