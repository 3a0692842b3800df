//! What the TPM says of itself.

use alloc::string::String;
use alloc::vec::Vec;

use attestation::digest::Algorithm;
use attestation::pcr::PcrBanks;
use attestation::tpm::{PcrSelect, PcrSelection, cc, rh};

use super::{CommandError, Provisioner, password, unreadable};
use crate::Engine;
use crate::identity::TpmIdentity;

/// TPM_CAP_COMMANDS.
const CAP_COMMANDS: u32 = 2;
/// TPMA_CC's bits of the command's code: commandIndex and V (TPM 2.0 Library, part 2, table "TPMA_CC").
const CC_CODE: u32 = 0x2000_FFFF;
/// TPMA_CC.nv: the command may write to NV.
const CC_NV: u32 = 1 << 22;
/// TPMA_CC.cHandles, from bit 25 on: how many handles the command has.
const CC_HANDLES: u32 = 7;
/// More commands than there are.
const ALL_COMMANDS: u32 = 0x1000;

/// TPM_CAP_PCRS.
const CAP_PCRS: u32 = 5;
/// TPM_CAP_TPM_PROPERTIES.
const CAP_TPM_PROPERTIES: u32 = 6;

/// TPM_PT (TPM 2.0 Library, part 2, table "TPM_PT").
mod property {
    pub(super) const FIXED: u32 = 0x100;
    pub(super) const LEVEL: u32 = 0x101;
    pub(super) const REVISION: u32 = 0x102;
    pub(super) const MANUFACTURER: u32 = 0x105;
    pub(super) const VENDOR_STRINGS: [u32; 4] = [0x106, 0x107, 0x108, 0x109];
    pub(super) const FIRMWARE_VERSION_1: u32 = 0x10B;
    /// Of the group of fixed properties.
    pub(super) const COUNT: u32 = 64;
}

/// What the TPM says of a command (TPM 2.0 Library, part 2, "TPMA_CC").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CommandKind {
    /// TPM_CC.
    pub(crate) code: u32,
    /// How many handles it has.
    pub(crate) handles: usize,
    /// What it does to NV.
    pub(crate) nv: NvUse,
}

/// What a command does to NV.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NvUse {
    /// Nothing.
    None,
    /// It may write.
    MayWrite,
}

impl<E: Engine> Provisioner<E> {
    /// As its certificates name it.
    pub(crate) fn identity(&mut self) -> Result<TpmIdentity, CommandError> {
        let mut fields = self
            .run(cc::GET_CAPABILITY, |command| {
                command
                    .u32(CAP_TPM_PROPERTIES)
                    .u32(property::FIXED)
                    .u32(property::COUNT)
            })?
            .parameters;
        let mut properties = Vec::new();
        let mut read = || {
            // moreData and the capability.
            fields.u8()?;
            fields.u32()?;
            for _ in 0..fields.u32()? {
                properties.push((fields.u32()?, fields.u32()?));
            }
            Ok(())
        };
        read().map_err(unreadable(cc::GET_CAPABILITY))?;
        let value = |property| {
            properties
                .iter()
                .find(|(id, _)| *id == property)
                .map_or(0, |(_, value)| *value)
        };
        let model: Vec<u8> = property::VENDOR_STRINGS
            .into_iter()
            .flat_map(|part| value(part).to_be_bytes())
            .take_while(|byte| *byte != 0)
            .collect();
        Ok(TpmIdentity {
            manufacturer: value(property::MANUFACTURER),
            model: String::from_utf8_lossy(&model).trim().into(),
            version: value(property::FIRMWARE_VERSION_1),
            level: value(property::LEVEL),
            revision: value(property::REVISION),
        })
    }

    /// What it says of each of its commands.
    pub(crate) fn commands(&mut self) -> Result<Vec<CommandKind>, CommandError> {
        let mut fields = self
            .run(cc::GET_CAPABILITY, |command| {
                command.u32(CAP_COMMANDS).u32(0).u32(ALL_COMMANDS)
            })?
            .parameters;
        let mut commands = Vec::new();
        let mut read = || {
            // moreData and the capability.
            fields.u8()?;
            fields.u32()?;
            for _ in 0..fields.u32()? {
                let attributes = fields.u32()?;
                commands.push(CommandKind {
                    code: attributes & CC_CODE,
                    handles: (attributes >> 25 & CC_HANDLES) as usize,
                    nv: match attributes & CC_NV {
                        0 => NvUse::None,
                        _ => NvUse::MayWrite,
                    },
                });
            }
            Ok(())
        };
        read().map_err(unreadable(cc::GET_CAPABILITY))?;
        Ok(commands)
    }

    /// The PCR banks that are allocated; `None` if they are none that L1 chooses.
    pub(crate) fn allocated_banks(&mut self) -> Result<Option<PcrBanks>, CommandError> {
        let mut fields = self
            .run(cc::GET_CAPABILITY, |command| {
                command.u32(CAP_PCRS).u32(0).u32(1)
            })?
            .parameters;
        let mut read = || {
            fields.u8()?;
            fields.u32()?;
            PcrSelection::read(&mut fields)
        };
        let selection = read().map_err(unreadable(cc::GET_CAPABILITY))?;
        let allocated = selection.0.iter().filter(|select| select.pcrs != [0; 3]);
        let banks = allocated.map(|select| (select.pcrs == [0xFF; 3]).then_some(select.bank));
        let banks = banks.collect::<Option<Vec<_>>>();
        Ok(banks.and_then(|banks| PcrBanks::new(&banks)))
    }

    /// TPM2_PCR_Allocate: these banks, of all PCRs, and no others from the next _TPM_Init on.
    pub(crate) fn allocate_banks(&mut self, banks: PcrBanks) -> Result<(), CommandError> {
        let selection = Algorithm::ALL.map(|bank| match banks.contains(bank) {
            true => PcrSelect::all(bank),
            false => PcrSelect::none(bank),
        });
        let selection = PcrSelection(selection.into()).to_bytes();
        let authorization = self.authorization;
        self.run(cc::PCR_ALLOCATE, |command| {
            command
                .authorized(rh::PLATFORM, password(&authorization))
                .bytes(&selection)
        })
        .map(drop)
    }
}
