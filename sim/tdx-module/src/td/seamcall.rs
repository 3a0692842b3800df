//! Completion codes that only the host sees (TDX Module ABI, "Function Completion Status Codes").

use tdx_defs::status::{Code, Operand};

/// TDX_NON_RECOVERABLE_VCPU.
pub const NON_RECOVERABLE_VCPU: Code = Code::Unknown(0x4000_0001);
/// TDX_NON_RECOVERABLE_TD.
pub const NON_RECOVERABLE_TD: Code = Code::Unknown(0x6000_0002);
/// TDX_HOST_PRIORITY_BUSY_TIMEOUT.
pub const HOST_PRIORITY_BUSY_TIMEOUT: Code = Code::Unknown(0x9000_0205);
/// TDX_TD_FATAL.
pub const TD_FATAL: Code = Code::Unknown(0xE000_0604);
/// TDX_OP_STATE_INCORRECT.
pub const OP_STATE_INCORRECT: Code = Code::Unknown(0xC000_0608);
/// TDX_VCPU_STATE_INCORRECT.
pub const VCPU_STATE_INCORRECT: Code = Code::Unknown(0xC000_0700);
/// TDX_MAX_VCPUS_EXCEEDED.
pub const MAX_VCPUS_EXCEEDED: Code = Code::Unknown(0xC000_0705);
/// TDX_GPA_RANGE_NOT_BLOCKED.
pub const GPA_RANGE_NOT_BLOCKED: Code = Code::Unknown(0xC000_0B06);
/// TDX_GPA_RANGE_ALREADY_BLOCKED, a warning.
pub const GPA_RANGE_ALREADY_BLOCKED: Code = Code::Unknown(0x0000_0B07);
/// TDX_TLB_TRACKING_NOT_DONE.
pub const TLB_TRACKING_NOT_DONE: Code = Code::Unknown(0xC000_0B08);
/// TDX_EPT_ENTRY_STATE_INCORRECT.
pub const EPT_ENTRY_STATE_INCORRECT: Code = Code::Unknown(0xC000_0B0D);

/// ATTRIBUTES in TD_PARAMS.
pub const OPERAND_ATTRIBUTES: Operand = Operand(64);
/// XFAM in TD_PARAMS.
pub const OPERAND_XFAM: Operand = Operand(65);
/// CONFIG_FLAGS in TD_PARAMS.
pub const OPERAND_EXEC_CONTROLS: Operand = Operand(66);
/// EPTP_CONTROLS in TD_PARAMS.
pub const OPERAND_EPTP_CONTROLS: Operand = Operand(67);
/// MAX_VCPUS in TD_PARAMS.
pub const OPERAND_MAX_VCPUS: Operand = Operand(68);
/// TSC_FREQUENCY in TD_PARAMS.
pub const OPERAND_TSC_FREQUENCY: Operand = Operand(70);
