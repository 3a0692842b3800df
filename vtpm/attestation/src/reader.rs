//! Reading a byte string front to back.

/// The bytes end before the field that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CutOff;

/// What is left to read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// What has not been read.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.0
    }

    /// The next bytes; none are taken when there are too few.
    pub(crate) fn bytes(&mut self, count: usize) -> Result<&'a [u8], CutOff> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(CutOff)?;
        self.0 = rest;
        Ok(taken)
    }

    /// As [`Self::bytes`], for a size that was itself read.
    pub(crate) fn sized(&mut self, count: u32) -> Result<&'a [u8], CutOff> {
        self.bytes(usize::try_from(count).map_err(|_| CutOff)?)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], CutOff> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(CutOff)?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, CutOff> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u16_le(&mut self) -> Result<u16, CutOff> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32_le(&mut self) -> Result<u32, CutOff> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u16_be(&mut self) -> Result<u16, CutOff> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn u32_be(&mut self) -> Result<u32, CutOff> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn u64_be(&mut self) -> Result<u64, CutOff> {
        self.array().map(u64::from_be_bytes)
    }
}
