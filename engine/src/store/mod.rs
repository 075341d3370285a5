//! What an engine keeps on disk.

#[cfg_attr(not(test), expect(dead_code, reason = "the store that opens it comes next"))]
mod fjall;
