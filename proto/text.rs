use std::{ops::Deref, str};

/// `N` bytes of ASCII, without an allocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Text<const N: usize>(pub(crate) [u8; N]);

impl<const N: usize> Deref for Text<N> {
    type Target = str;

    fn deref(&self) -> &str {
        str::from_utf8(&self.0).expect("ASCII is UTF-8")
    }
}
