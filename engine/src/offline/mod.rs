//! Work on stores that no engine has open: looking, copying, saving what is left.
//!
//! Promises: while a store is looked at no engine can open it, and nothing in it is changed, not
//! even a file made; what is damaged is refused or told, never served.
//! Fails by: [`crate::StoreError`].
//! Not here: what a command prints (package `ebbtide-cli`).

mod backup;
mod contents;
mod copy;
mod held;
mod readable;
mod salvage;
mod state;
mod target;
mod verify;

pub use backup::{BackedUp, BackupError, backup};
pub use contents::{CheckpointContents, KeyspaceContents, ManifestContents, SourceContents};
pub use held::HeldStore;
pub use salvage::{Salvage, SalvageError, SalvageOptions, TROUBLES_MAX, Trouble, salvage};
pub use state::StoredState;
pub use target::{TargetError, check_outside};
pub use verify::{
    CheckpointVerified, Difference, FINDINGS_MAX, Finding, LogVerified, Rebuilt, Verification,
    VerifyStep, verify,
};
