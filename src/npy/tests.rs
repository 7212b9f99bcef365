use super::*;
use kiln_tensor::{Complex, Element, f16};

const STORED: &[u8] = include_bytes!("../../models/arrays/stored.npz");
const DEFLATED: &[u8] = include_bytes!("../../models/arrays/deflated.npz");
const REFUSED: &[u8] = include_bytes!("../../models/arrays/refused.npy");

fn npz(file: &'static [u8]) -> Vec<(String, Tensor)> {
    read_npz(&Bytes::from_static(file)).expect("NumPy wrote it")
}

/// `0..6` as a 2x3 array.
fn count<T: Element>(convert: impl Fn(u8) -> T) -> Tensor {
    Tensor::from_vec(&[2, 3], (0..6).map(convert).collect()).expect("six elements")
}

fn texts(shape: &[usize], texts: &[&str]) -> Tensor {
    let texts = texts.iter().map(|&t| t.to_owned()).collect();
    Tensor::from_strings(shape, texts).expect("lengths agree")
}

fn expected() -> Vec<(&'static str, Tensor)> {
    vec![
        ("b1", count(|i| i != 0)),
        ("i1", count(|i| i as i8)),
        ("i2", count(i16::from)),
        ("i4", count(i32::from)),
        ("i8", count(i64::from)),
        ("u1", count(|i| i)),
        ("u2", count(u16::from)),
        ("u4", count(u32::from)),
        ("u8", count(u64::from)),
        ("f2", count(|i| f16::from_f32(i.into()))),
        ("f4", count(f32::from)),
        ("f8", count(f64::from)),
        ("c8", count(|i| Complex { re: f32::from(i), im: 0.0 })),
        ("c16", count(|i| Complex { re: f64::from(i), im: 0.0 })),
        ("big_i4", count(i32::from)),
        ("big_c8", count(|i| Complex { re: f32::from(i), im: 1.0 })),
        ("fortran", count(f32::from)),
        ("scalar", Tensor::scalar(2.5f64)),
        ("empty", Tensor::zeros(DType::F32, &[0, 4]).expect("no elements")),
        ("text", texts(&[2, 2], &["a", "bcd", "", "é世🌍"])),
        ("big_text", texts(&[2], &["a", "bcd"])),
        ("bytes", texts(&[2], &["a", "bcd"])),
        ("objects", texts(&[2, 2], &["x", "yy", "x", "z"])),
        ("fortran_objects", texts(&[2, 2], &["x", "yy", "x", "z"])),
    ]
}

#[test]
fn every_kind_of_array_reads_as_numpy_wrote_it() {
    for file in [STORED, DEFLATED] {
        let got = npz(file);
        let got: Vec<_> = got.iter().map(|(name, t)| (name.as_str(), t.clone())).collect();
        assert_eq!(got, expected());
    }
}

#[test]
fn objects_other_than_strings_are_refused() {
    let got = read(&Bytes::from_static(REFUSED)).expect_err("it holds an integer");
    assert!(got.to_string().contains("astype(str)"), "{got}");
}

#[test]
fn what_is_written_reads_back() {
    for (name, tensor) in expected() {
        let file = write(&tensor).expect("every type here is NumPy's");
        assert_eq!(read(&file.into()), Ok(tensor), "{name}");
    }
}

#[test]
fn elements_begin_at_a_multiple_of_64() {
    for rank in [0, 1, 5, 30_000] {
        let file = write(&Tensor::from_vec(&vec![1; rank], vec![7u8]).expect("one element"));
        let file = file.expect("u8 is NumPy's");
        assert_eq!((file.len() - 1) % 64, 0, "rank {rank}");
        assert_eq!(read(&file.into()).map(|t| t.rank()), Ok(rank));
    }
}

#[test]
fn narrow_types_are_widened() {
    let t = Tensor::vector(vec![kiln_tensor::bf16::from_f32(1.5)]);
    let read = read(&write(&t).expect("it widens").into());
    assert_eq!(read, Ok(Tensor::vector(vec![1.5f32])));
}

#[test]
fn strings_that_numpy_would_shorten_are_not_written() {
    assert!(matches!(write(&texts(&[1], &["a\0"])), Err(Error::Unsupported(_))));
}

/// An `.npy` of version 1 with the given header and body.
fn npy(descr: &str, shape: &str, body: &[u8]) -> Bytes {
    let text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}}}\n");
    let mut file = b"\x93NUMPY\x01\x00".to_vec();
    file.extend((text.len() as u16).to_le_bytes());
    file.extend(text.as_bytes());
    file.extend(body);
    file.into()
}

#[test]
fn hostile_headers_are_errors() {
    for (descr, shape, body) in [
        ("<f4", "(2,)", &[0; 7][..]),
        ("<f4", "(2,)", &[0; 9]),
        ("<f4", "(18446744073709551615, 18446744073709551615)", &[]),
        ("<f8", "(4611686018427387904,)", &[]),
        ("<U0", "(4611686018427387904,)", &[]),
        ("|S0", "(4611686018427387904,)", &[]),
        ("<U4611686018427387903", "(4,)", &[]),
        ("<U1", "(1,)", &[0, 0, 0x11, 0]),
        ("<U1", "(1,)", &[0, 0xD8, 0, 0]),
        ("|S1", "(1,)", &[0xFF]),
        ("|O", "(2,)", b"N."),
    ] {
        assert!(read(&npy(descr, shape, body)).is_err(), "{descr} {shape}");
    }
    assert_eq!(read(&npy("<i2", "(1,)", &[1, 2])), Ok(Tensor::vector(vec![0x0201i16])));
}

#[test]
fn cut_or_damaged_files_are_errors() {
    for cut in 0..REFUSED.len() {
        assert!(read(&Bytes::from_static(&REFUSED[..cut])).is_err(), "cut at {cut}");
    }
    for file in [STORED, DEFLATED] {
        for cut in 0..file.len() {
            assert!(read_npz(&Bytes::from_static(&file[..cut])).is_err(), "cut at {cut}");
        }
        // A flipped byte may hit a date or a comment; what counts is that nothing panics.
        for at in (0..file.len()).step_by(3) {
            let mut damaged = file.to_vec();
            damaged[at] ^= 0xFF;
            let _ = read_npz(&damaged.into());
        }
    }
}

#[test]
fn a_member_that_unpacks_beyond_the_limit_is_refused() {
    let entry = zip::directory(DEFLATED).expect("NumPy wrote it").remove(0);
    let file = Bytes::from_static(DEFLATED);
    let content = entry.extract(&file, usize::MAX).expect("it unpacks");
    assert!(entry.extract(&file, content.len()).is_ok());
    assert!(matches!(entry.extract(&file, content.len() - 1), Err(Error::Limit(_))));
}

#[test]
fn zip64_directories_are_followed() {
    let end = STORED.len() - 22;
    let field = |at: usize| u32::from_le_bytes(STORED[at..at + 4].try_into().expect("4 bytes"));
    let (count, offset) = (field(end + 8) & 0xFFFF, u64::from(field(end + 16)));
    let mut file = STORED[..end].to_vec();
    file.extend(b"PK\x06\x06");
    file.extend([0; 28]);
    file.extend(u64::from(count).to_le_bytes());
    file.extend([0; 8]);
    file.extend(offset.to_le_bytes());
    file.extend(b"PK\x06\x07\0\0\0\0");
    file.extend((end as u64).to_le_bytes());
    file.extend([0; 4]);
    file.extend(b"PK\x05\x06\0\0\0\0");
    file.extend([0xFF; 12]);
    file.extend([0; 2]);
    assert_eq!(read_npz(&file.into()).map(|a| a.len()), Ok(expected().len()));
}
