//! The order of the names in a cache, in which the dynamic linker searches by halves.

use std::cmp::Ordering;
use std::iter::Peekable;
use std::str::Bytes;

/// How glibc compares two names: byte by byte, a run of digits as the number that it is, and a
/// digit after everything else. `libfoo.so.9` comes before `libfoo.so.10`.
pub fn compare(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.bytes().peekable(), b.bytes().peekable());
    loop {
        let ordering = match (a.peek().copied(), b.peek().copied()) {
            (None, None) => return Ordering::Equal,
            (Some(x), Some(y)) if x.is_ascii_digit() && y.is_ascii_digit() => {
                number(&mut a).cmp(&number(&mut b))
            }
            (Some(x), _) if x.is_ascii_digit() => Ordering::Greater,
            (_, Some(y)) if y.is_ascii_digit() => Ordering::Less,
            _ => a.next().cmp(&b.next()),
        };
        if ordering != Ordering::Equal {
            return ordering;
        }
    }
}

/// Takes the digits that come next. One so long that it is no 64-bit number counts as the highest.
fn number(text: &mut Peekable<Bytes<'_>>) -> u64 {
    let mut value = 0u64;
    while let Some(digit) = text.next_if(u8::is_ascii_digit) {
        let digit = u64::from(digit - b'0');
        value = value.saturating_mul(10).saturating_add(digit);
    }
    value
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn versions_are_compared_as_numbers_and_stand_behind_words() {
        let ascending = [
            "libcuda.so",
            "libcuda.so.1",
            "libcuda.so.2",
            "libcuda.so.10",
            "libcudadebugger.so.1",
            "libnvidia-nvvm.so.4",
            "libnvidia-nvvm70.so.4",
        ];
        let mut sorted = ascending;
        sorted.reverse();
        sorted.sort_by(|a, b| compare(a, b));
        assert_eq!(sorted, ascending);
    }

    proptest! {
        #[test]
        fn the_order_is_total(a in "[a1.]{0,6}", b in "[a1.]{0,6}", c in "[a1.]{0,6}") {
            prop_assert_eq!(compare(&a, &b), compare(&b, &a).reverse());
            if compare(&a, &b).is_le() && compare(&b, &c).is_le() {
                prop_assert!(compare(&a, &c).is_le());
            }
        }
    }
}
