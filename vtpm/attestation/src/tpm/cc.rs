//! TPM_CC (TPM 2.0 Library, part 2, "TPM_CC (Command Codes)").

/// TPM2_NV_UndefineSpaceSpecial.
pub const NV_UNDEFINE_SPACE_SPECIAL: u32 = 0x11F;
/// TPM2_EvictControl.
pub const EVICT_CONTROL: u32 = 0x120;
/// TPM2_HierarchyControl.
pub const HIERARCHY_CONTROL: u32 = 0x121;
/// TPM2_NV_UndefineSpace.
pub const NV_UNDEFINE_SPACE: u32 = 0x122;
/// TPM2_ChangeEPS.
pub const CHANGE_EPS: u32 = 0x124;
/// TPM2_ChangePPS.
pub const CHANGE_PPS: u32 = 0x125;
/// TPM2_Clear.
pub const CLEAR: u32 = 0x126;
/// TPM2_ClearControl.
pub const CLEAR_CONTROL: u32 = 0x127;
/// TPM2_ClockSet.
pub const CLOCK_SET: u32 = 0x128;
/// TPM2_HierarchyChangeAuth.
pub const HIERARCHY_CHANGE_AUTH: u32 = 0x129;
/// TPM2_NV_DefineSpace.
pub const NV_DEFINE_SPACE: u32 = 0x12A;
/// TPM2_PCR_Allocate.
pub const PCR_ALLOCATE: u32 = 0x12B;
/// TPM2_PCR_SetAuthPolicy.
pub const PCR_SET_AUTH_POLICY: u32 = 0x12C;
/// TPM2_SetPrimaryPolicy.
pub const SET_PRIMARY_POLICY: u32 = 0x12E;
/// TPM2_CreatePrimary.
pub const CREATE_PRIMARY: u32 = 0x131;
/// TPM2_NV_GlobalWriteLock.
pub const NV_GLOBAL_WRITE_LOCK: u32 = 0x132;
/// TPM2_NV_Increment.
pub const NV_INCREMENT: u32 = 0x134;
/// TPM2_NV_SetBits.
pub const NV_SET_BITS: u32 = 0x135;
/// TPM2_NV_Extend.
pub const NV_EXTEND: u32 = 0x136;
/// TPM2_NV_Write.
pub const NV_WRITE: u32 = 0x137;
/// TPM2_NV_WriteLock.
pub const NV_WRITE_LOCK: u32 = 0x138;
/// TPM2_DictionaryAttackLockReset.
pub const DICTIONARY_ATTACK_LOCK_RESET: u32 = 0x139;
/// TPM2_DictionaryAttackParameters.
pub const DICTIONARY_ATTACK_PARAMETERS: u32 = 0x13A;
/// TPM2_NV_ChangeAuth.
pub const NV_CHANGE_AUTH: u32 = 0x13B;
/// TPM2_PCR_Event.
pub const PCR_EVENT: u32 = 0x13C;
/// TPM2_PCR_Reset.
pub const PCR_RESET: u32 = 0x13D;
/// TPM2_SequenceComplete.
pub const SEQUENCE_COMPLETE: u32 = 0x13E;
/// TPM2_IncrementalSelfTest.
pub const INCREMENTAL_SELF_TEST: u32 = 0x142;
/// TPM2_SelfTest.
pub const SELF_TEST: u32 = 0x143;
/// TPM2_Startup.
pub const STARTUP: u32 = 0x144;
/// TPM2_Shutdown.
pub const SHUTDOWN: u32 = 0x145;
/// TPM2_StirRandom.
pub const STIR_RANDOM: u32 = 0x146;
/// TPM2_Certify.
pub const CERTIFY: u32 = 0x148;
/// TPM2_NV_Read.
pub const NV_READ: u32 = 0x14E;
/// TPM2_NV_ReadLock.
pub const NV_READ_LOCK: u32 = 0x14F;
/// TPM2_Create.
pub const CREATE: u32 = 0x153;
/// TPM2_Load.
pub const LOAD: u32 = 0x157;
/// TPM2_Quote.
pub const QUOTE: u32 = 0x158;
/// TPM2_Sign.
pub const SIGN: u32 = 0x15D;
/// TPM2_Unseal.
pub const UNSEAL: u32 = 0x15E;
/// TPM2_FlushContext.
pub const FLUSH_CONTEXT: u32 = 0x165;
/// TPM2_NV_ReadPublic.
pub const NV_READ_PUBLIC: u32 = 0x169;
/// TPM2_ReadPublic.
pub const READ_PUBLIC: u32 = 0x173;
/// TPM2_StartAuthSession.
pub const START_AUTH_SESSION: u32 = 0x176;
/// TPM2_VerifySignature.
pub const VERIFY_SIGNATURE: u32 = 0x177;
/// TPM2_GetCapability.
pub const GET_CAPABILITY: u32 = 0x17A;
/// TPM2_GetRandom.
pub const GET_RANDOM: u32 = 0x17B;
/// TPM2_GetTestResult.
pub const GET_TEST_RESULT: u32 = 0x17C;
/// TPM2_PCR_Read.
pub const PCR_READ: u32 = 0x17E;
/// TPM2_PolicyPCR.
pub const POLICY_PCR: u32 = 0x17F;
/// TPM2_ReadClock.
pub const READ_CLOCK: u32 = 0x181;
/// TPM2_PCR_Extend.
pub const PCR_EXTEND: u32 = 0x182;
/// TPM2_PCR_SetAuthValue.
pub const PCR_SET_AUTH_VALUE: u32 = 0x183;
/// TPM2_EventSequenceComplete.
pub const EVENT_SEQUENCE_COMPLETE: u32 = 0x185;
/// TPM2_HashSequenceStart.
pub const HASH_SEQUENCE_START: u32 = 0x186;
/// TPM2_PolicyGetDigest.
pub const POLICY_GET_DIGEST: u32 = 0x189;
