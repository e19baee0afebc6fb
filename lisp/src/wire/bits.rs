//! Bit ranges in the RFCs' own numbering: bit 0 is the most significant bit of the structure's first octet.
//!
//! Each message has one table of these. Views read and write through it and the dissector prints from it, so that the
//! layout of a header is written down once.

/// A named run of bits inside a fixed-size structure.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bits {
    /// Name as the RFC spells it.
    pub(crate) name: &'static str,
    /// First bit.
    pub(crate) first: usize,
    /// Number of bits: 1 to 64, or a multiple of 8 that starts on an octet.
    pub(crate) width: usize,
}

impl Bits {
    pub(crate) const fn new(name: &'static str, first: usize, width: usize) -> Self {
        Self { name, first, width }
    }

    /// The value, right-aligned; only for widths up to 64.
    ///
    /// # Panics
    /// When the buffer is shorter than the structure, which `new_checked` rules out.
    #[inline]
    pub(crate) fn get(self, buffer: &[u8]) -> u64 {
        let last = self.first + self.width;
        let octets = &buffer[self.first / 8..last.div_ceil(8)];
        // Nine octets when 64 bits straddle: hence the wider accumulator.
        let word = octets
            .iter()
            .fold(0u128, |word, octet| (word << 8) | u128::from(*octet));
        let value = word >> (octets.len() * 8 - self.first % 8 - self.width);
        (value as u64) & mask(self.width)
    }

    /// Replace the bits by the low `width` bits of `value`; the neighbours stay.
    #[inline]
    pub(crate) fn set(self, buffer: &mut [u8], value: u64) {
        let last = self.first + self.width;
        let octets = &mut buffer[self.first / 8..last.div_ceil(8)];
        let shift = octets.len() * 8 - self.first % 8 - self.width;
        let keep = !(u128::from(mask(self.width)) << shift);
        let word = octets
            .iter()
            .fold(0u128, |word, octet| (word << 8) | u128::from(*octet));
        let mut word = (word & keep) | (u128::from(value & mask(self.width)) << shift);
        for octet in octets.iter_mut().rev() {
            *octet = word as u8;
            word >>= 8;
        }
    }
}

const fn mask(width: usize) -> u64 {
    if width >= 64 {
        u64::MAX
    } else {
        (1 << width) - 1
    }
}

/// What a bit range is in Rust.
pub(crate) trait Value {
    fn from_bits(bits: u64) -> Self;
    fn into_bits(self) -> u64;
}

impl Value for bool {
    fn from_bits(bits: u64) -> Self {
        bits != 0
    }
    fn into_bits(self) -> u64 {
        u64::from(self)
    }
}

macro_rules! value_of_integer {
    ($($integer:ty),*) => {$(
        impl Value for $integer {
            fn from_bits(bits: u64) -> Self {
                bits as $integer
            }
            fn into_bits(self) -> u64 {
                u64::from(self)
            }
        }
    )*};
}
value_of_integer!(u8, u16, u32, u64);

/// A zero-copy view: a struct over `T: AsRef<[u8]>` with a getter and, for `AsMut`, a setter for each bit range.
macro_rules! view {
    (
        $(#[$doc:meta])*
        $name:ident, $message:literal, $len:expr, $kinds:expr;
        $($(#[$field_doc:meta])* $get:ident, $set:ident: $ty:ty = $bits:expr;)*
    ) => {
        $(#[$doc])*
        ///
        /// Setters write what they are told, so that a test can build a wrong packet; a value too large for its field
        /// loses its high bits.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub struct $name<T>(T);

        impl<T: AsRef<[u8]>> $name<T> {
            /// Octets of the fixed part.
            pub const FIXED_LEN: usize = $len;

            /// A view of `buffer`.
            ///
            /// # Errors
            /// When the buffer is shorter than the fixed part, or has a type field of another message.
            pub fn new_checked(buffer: T) -> Result<Self, $crate::DecodeError> {
                $crate::wire::bits::check_view($message, buffer.as_ref(), $len, $kinds)?;
                Ok(Self(buffer))
            }

            /// The buffer.
            pub fn into_inner(self) -> T {
                self.0
            }

            /// What follows the fixed part.
            pub fn payload(&self) -> &[u8] {
                &self.0.as_ref()[$len..]
            }

            $(
                $(#[$field_doc])*
                pub fn $get(&self) -> $ty {
                    <$ty as $crate::wire::bits::Value>::from_bits($bits.get(self.0.as_ref()))
                }
            )*
        }

        impl<T: AsRef<[u8]> + AsMut<[u8]>> $name<T> {
            /// What follows the fixed part.
            pub fn payload_mut(&mut self) -> &mut [u8] {
                &mut self.0.as_mut()[$len..]
            }

            $(
                #[doc = concat!("Write what [`Self::", stringify!($get), "`] reads.")]
                pub fn $set(&mut self, value: $ty) {
                    $bits.set(self.0.as_mut(), <$ty as $crate::wire::bits::Value>::into_bits(value));
                }
            )*
        }
    };
}
pub(crate) use view;

use crate::error::DecodeError;

/// What `new_checked` of every view checks: the length of the fixed part and, for messages, the type field.
pub(crate) fn check_view(
    message: &'static str,
    buffer: &[u8],
    len: usize,
    kinds: &[u8],
) -> Result<(), DecodeError> {
    if buffer.len() < len {
        return Err(DecodeError {
            message,
            field: "fixed part",
            offset: buffer.len(),
            expected: format!("{len} octets"),
            found: format!("{} octets", buffer.len()),
        });
    }
    let kind = buffer[0] >> 4;
    if !kinds.is_empty() && !kinds.contains(&kind) {
        let expected: Vec<_> = kinds.iter().map(u8::to_string).collect();
        return Err(DecodeError {
            message,
            field: "type",
            offset: 0,
            expected: expected.join(" or "),
            found: kind.to_string(),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::Bits;

    #[test]
    fn bits_that_straddle_octets_leave_their_neighbours_alone() {
        for first in 0..24 {
            for width in 1..=64 {
                let bits = Bits::new("x", first, width);
                for fill in [0x00, 0xff, 0xa5] {
                    let mut buffer = [fill; 11];
                    bits.set(&mut buffer, 0x5a5a_1234_9876_fedc);
                    assert_eq!(
                        bits.get(&buffer),
                        0x5a5a_1234_9876_fedc & super::mask(width)
                    );
                    for bit in (0..88).filter(|bit| !(first..first + width).contains(bit)) {
                        let of = |octets: &[u8]| octets[bit / 8] >> (7 - bit % 8) & 1;
                        assert_eq!(of(&buffer), of(&[fill; 11]), "bit {bit} of {first}+{width}");
                    }
                }
            }
        }
    }
}
