//! Sizes of memory and disk, as people write and read them.

use std::fmt;

/// One mebibyte.
pub const MIB: u64 = 1 << 20;
/// One gibibyte.
pub const GIB: u64 = 1 << 30;

const UNITS: &[(&str, u64)] = &[("KiB", 1 << 10), ("MiB", MIB), ("GiB", GIB), ("TiB", 1 << 40)];

/// The bytes of a text such as `512MiB` or `1 GiB`: a whole number and a unit.
pub fn parse(text: &str) -> Option<u64> {
    let text = text.trim();
    let unit = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = (&text[..unit], text[unit..].trim_start());
    let (_, bytes) = UNITS.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*bytes)
}

/// Shows bytes with a unit that fits: `812 MiB`, `1.5 GiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, bytes) = UNITS.iter().rev().find(|(_, bytes)| self.0 >= *bytes).unwrap_or(&UNITS[0]);
        // A whole number where it has three digits or is exact, otherwise one decimal.
        let tenths = u128::from(self.0) * 10 / u128::from(*bytes);
        if tenths >= 1000 || self.0.is_multiple_of(*bytes) {
            write!(f, "{} {unit}", tenths / 10)
        } else {
            write!(f, "{}.{} {unit}", tenths / 10, tenths % 10)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_their_unit_only() {
        assert_eq!(parse("512MiB"), Some(512 * MIB));
        assert_eq!(parse(" 1 GiB "), Some(GIB));
        for wrong in ["", "512", "MiB", "1GB", "-1GiB", "1.5GiB", "99999999999999999999GiB", "99999999999999999GiB"] {
            assert_eq!(parse(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn sizes_are_shown_with_a_unit_that_fits() {
        for (bytes, shown) in [
            (0, "0 KiB"),
            (100, "0.0 KiB"),
            (MIB, "1 MiB"),
            (812 * MIB + 1000, "812 MiB"),
            (3 * GIB / 2, "1.5 GiB"),
            (GIB, "1 GiB"),
            (u64::MAX, "16777215 TiB"),
        ] {
            assert_eq!(Size(bytes).to_string(), shown);
        }
    }
}
