//! The registers of the CRB interface: bits, no behaviour.
//!
//! PTP 1.05, section "CRB Interface".

use bitfield_struct::bitfield;

/// TPM_LOC_STATE_x, 0x000: who owns the TPM, the same in every locality's page.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct LocState {
    /// Reads inverted, as in the FIFO's ACCESS: set while no dynamic launch has happened.
    pub tpm_established: bool,
    /// A locality owns the TPM.
    pub loc_assigned: bool,
    /// Which one.
    #[bits(3)]
    pub active_locality: u8,
    #[bits(2)]
    __: u8,
    /// The other bits are valid.
    pub tpm_reg_valid_sts: bool,
    #[bits(24)]
    __: u32,
}

/// TPM_LOC_CTRL_x, 0x008. Reads as 0.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct LocCtrl {
    /// Asks for the TPM.
    pub request_access: bool,
    /// Gives it up, or withdraws the request for it.
    pub relinquish: bool,
    /// Takes it from a lower locality.
    pub seize: bool,
    /// Localities 3 and 4: no dynamic launch has happened.
    pub reset_establishment_bit: bool,
    #[bits(28)]
    __: u32,
}

/// TPM_LOC_STS_x, 0x00C.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct LocSts {
    /// This locality owns the TPM.
    pub granted: bool,
    /// A higher one took it from this one, which has not asked for it since.
    pub been_seized: bool,
    #[bits(30)]
    __: u32,
}

/// TPM_CRB_CTRL_REQ_x, 0x040. What is written is done at once: reads as 0.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct CtrlReq {
    /// A command is to come.
    pub cmd_ready: bool,
    /// None is to come, and the response is not needed any more.
    pub go_idle: bool,
    #[bits(30)]
    __: u32,
}

/// TPM_CRB_CTRL_STS_x, 0x044.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct CtrlSts {
    /// A fatal error, until the next reset. Never set: an engine that fails says so in its responses.
    pub tpm_sts: bool,
    /// cmdReady is due before the next command.
    pub tpm_idle: bool,
    #[bits(30)]
    __: u32,
}

/// TPM_CRB_INT_ENABLE_x, 0x050.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct IntEnable {
    /// The response is there.
    pub start: bool,
    /// A command can be written.
    pub cmd_ready: bool,
    pub establishment_clear: bool,
    pub locality_change: bool,
    #[bits(27)]
    __: u32,
    pub global: bool,
}

impl IntEnable {
    /// What can be stored.
    pub const WRITABLE: u32 = Self::new()
        .with_start(true)
        .with_cmd_ready(true)
        .with_establishment_clear(true)
        .with_locality_change(true)
        .with_global(true)
        .into_bits();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_where_the_profile_has_them() {
        let state = LocState::new()
            .with_tpm_reg_valid_sts(true)
            .with_loc_assigned(true)
            .with_active_locality(3);
        assert_eq!(state.into_bits(), 0x8E);
        assert_eq!(LocCtrl::new().with_seize(true).into_bits(), 4);
        assert_eq!(LocSts::new().with_been_seized(true).into_bits(), 2);
        assert_eq!(CtrlReq::new().with_go_idle(true).into_bits(), 2);
        assert_eq!(CtrlSts::new().with_tpm_idle(true).into_bits(), 2);
        assert_eq!(IntEnable::WRITABLE, 0x8000_000F);
    }
}
