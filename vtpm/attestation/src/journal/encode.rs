//! Records as CBOR.

use super::{Record, Start, Unlock};
use crate::digest::{Algorithm, Digest};
use alloc::vec::Vec;
use core::convert::Infallible;
use minicbor::Encoder;
use minicbor::encode::Error;

type Result<T> = core::result::Result<T, Error<Infallible>>;

impl Record {
    /// Deterministically encoded CBOR.
    pub fn to_cbor(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        // Writing to a `Vec` does not fail, and nothing else here does.
        let written = self.write(&mut Encoder::new(&mut bytes));
        debug_assert!(written.is_ok());
        bytes
    }

    fn write(&self, to: &mut Encoder<&mut Vec<u8>>) -> Result<()> {
        let fields = match self {
            Self::Start(start) => match start.processors {
                None => 9,
                Some(_) => 11,
            },
            Self::Reset | Self::Clear => 0,
            Self::Startup(_)
            | Self::Shutdown(_)
            | Self::NvCommit { .. }
            | Self::PcrReset { .. }
            | Self::StateRefused { .. }
            | Self::LogFull { .. } => 1,
            Self::PcrExtend { .. } | Self::PcrValue { .. } | Self::PcrSummary { .. } => 2,
            Self::Hierarchy { .. } | Self::NvIndex { .. } => 3,
            Self::Unlock(_) => 6,
        };
        to.array(2 + fields)?.u8(self.code())?.u8(self.version())?;
        match self {
            Self::Start(start) => start.write(to)?,
            Self::Startup(kind) | Self::Shutdown(kind) => drop(to.u16(kind.code())?),
            Self::Reset | Self::Clear => {}
            Self::Hierarchy {
                command,
                handle,
                parameters,
            } => drop(to.u32(*command)?.u32(*handle)?.bytes(parameters)?),
            Self::NvIndex {
                defined,
                index,
                attributes,
            } => drop(to.bool(*defined)?.u32(*index)?.u32(*attributes)?),
            Self::NvCommit { state } => drop(to.bytes(state)?),
            Self::PcrExtend { pcr, digests } => digests_of(to.u8(*pcr)?, digests)?,
            Self::PcrReset { pcr } => drop(to.u8(*pcr)?),
            Self::PcrValue { pcr, values } => digests_of(to.u8(*pcr)?, values)?,
            Self::PcrSummary { changes, banks } => drop(to.u64(*changes)?.bytes(banks)?),
            Self::LogFull { records } => drop(to.u64(*records)?),
            Self::Unlock(unlock) => unlock.write(to)?,
            Self::StateRefused { reason } => drop(to.str(reason)?),
        }
        Ok(())
    }
}

impl Start {
    fn write(&self, to: &mut Encoder<&mut Vec<u8>>) -> Result<()> {
        to.str(&self.engine)?.str(&self.interface)?;
        to.u8(self.mode.code())?.u8(self.mirror.code())?;
        let banks: Vec<_> = self.banks.iter().map(Algorithm::id).collect();
        to.array(banks.len() as u64)?;
        for bank in banks {
            to.u16(bank)?;
        }
        match &self.state {
            Some(state) => to.bytes(state)?,
            None => to.null()?,
        };
        to.array(3)?;
        for name in &self.eks {
            to.bytes(name.as_bytes())?;
        }
        to.bytes(self.ak.as_bytes())?.bytes(&self.ca)?;
        if let Some(processors) = self.processors {
            to.u32(processors.td())?.u32(processors.l2())?;
        }
        Ok(())
    }
}

impl Unlock {
    fn write(&self, to: &mut Encoder<&mut Vec<u8>>) -> Result<()> {
        to.bytes(&self.machine)?;
        match &self.broker {
            Some(broker) => to.bytes(broker)?,
            None => to.null()?,
        };
        to.u8(self.key.code())?.u8(self.rollback.code())?;
        to.u64(self.epoch)?.u64(self.counter)?;
        Ok(())
    }
}

fn digests_of(to: &mut Encoder<&mut Vec<u8>>, digests: &[Digest]) -> Result<()> {
    to.array(digests.len() as u64)?;
    for digest in digests {
        to.array(2)?
            .u16(digest.algorithm().id())?
            .bytes(digest.bytes())?;
    }
    Ok(())
}
