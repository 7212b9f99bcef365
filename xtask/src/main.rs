//! Chores of the workspace that need tools the runtime must not depend on.
fn main() {}
