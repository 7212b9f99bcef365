//! Elements of less than a byte: packed in files, one byte each in memory, the first element in the
//! lowest bits.

use kiln_tensor::DType;

/// Bytes that `len` elements take in a file; `None` on overflow and for strings.
pub fn packed_len(dtype: DType, len: usize) -> Option<usize> {
    match dtype.bits() {
        0 => None,
        // In 128 bits no length overflows.
        bits if bits < 8 => usize::try_from((len as u128 * bits as u128).div_ceil(8)).ok(),
        bits => len.checked_mul(bits / 8),
    }
}

/// The first `len` elements of `packed`, one byte each, signed ones sign-extended.
pub fn unpack(dtype: DType, packed: &[u8], len: usize) -> Vec<u8> {
    let bits = dtype.bits();
    let element = |i: usize| {
        let (at, shift) = (i * bits / 8, i * bits % 8);
        let next = if shift + bits > 8 { packed[at + 1] } else { 0 };
        let window = u16::from_le_bytes([packed[at], next]) >> shift;
        let high = (window as u8) << (8 - bits);
        match dtype.is_signed() {
            true => ((high as i8) >> (8 - bits)) as u8,
            false => high >> (8 - bits),
        }
    };
    (0..len).map(element).collect()
}

/// The opposite of [`unpack`]; the last byte is filled with zeros.
pub fn pack(dtype: DType, elements: &[u8]) -> Vec<u8> {
    let bits = dtype.bits();
    let mask = 0xff >> (8 - bits);
    let mut packed = vec![0; (elements.len() * bits).div_ceil(8)];
    for (i, &x) in elements.iter().enumerate() {
        let (at, shift) = (i * bits / 8, i * bits % 8);
        let [low, high] = (u16::from(x & mask) << shift).to_le_bytes();
        packed[at] |= low;
        if high != 0 {
            packed[at + 1] |= high;
        }
    }
    packed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_element_is_in_the_low_bits() {
        let (m1, m2, m8) = (-1i8 as u8, -2i8 as u8, -8i8 as u8);
        // dtype, packed, elements
        let cases: [(DType, &[u8], &[u8]); 10] = [
            (DType::U4, &[0x21, 0x03], &[1, 2, 3]),
            (DType::U4, &[0xf0], &[0, 15]),
            (DType::I4, &[0x8f, 0x07], &[m1, m8, 7]),
            (DType::F4E2M1, &[0xf1], &[1, 15]),
            (DType::U2, &[0b1110_0100], &[0, 1, 2, 3]),
            (DType::U2, &[0b0000_0100, 0b0000_0011][..1], &[0, 1, 0]),
            (DType::I2, &[0b1110_0100, 0b0000_0010], &[0, 1, m2, m1, m2]),
            (DType::I2, &[], &[]),
            // 0b000001, 0b000010, 0b000011, 0b111111, 0b100000
            (DType::F6E2M3, &[0b1000_0001, 0b0011_0000, 0b1111_1100, 0x20], &[1, 2, 3, 63, 32]),
            (DType::F6E3M2, &[0x3f], &[63]),
        ];
        for (dtype, packed, elements) in cases {
            assert_eq!(packed_len(dtype, elements.len()), Some(packed.len()));
            assert_eq!(unpack(dtype, packed, elements.len()), elements, "{dtype}");
            assert_eq!(pack(dtype, elements), packed, "{dtype}");
        }
    }

    #[test]
    fn lengths_do_not_overflow() {
        assert_eq!(packed_len(DType::F32, 3), Some(12));
        assert_eq!(packed_len(DType::C128, 2), Some(32));
        assert_eq!(packed_len(DType::F32, usize::MAX), None);
        assert_eq!(packed_len(DType::U4, usize::MAX), Some(usize::MAX / 2 + 1));
        assert_eq!(packed_len(DType::String, 1), None);
    }
}
