//! Panics: always a bug in kiln, and reported as one.

use std::any::Any;
use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

/// Where the last panic happened; kept, because a payload does not say.
static PLACE: Mutex<Option<String>> = Mutex::new(None);

/// Makes panics silent and remembers where they happen; [`report`] and [`catch`] tell of them.
pub fn install_hook() {
    panic::set_hook(Box::new(|info| {
        let place = info.location().map(ToString::to_string);
        *PLACE.lock().unwrap_or_else(PoisonError::into_inner) = place;
    }));
}

/// Runs `f`; a panic becomes its text.
pub fn catch<T>(f: impl FnOnce() -> T) -> Result<T, String> {
    panic::catch_unwind(AssertUnwindSafe(f)).map_err(|p| text(p.as_ref()))
}

fn text(panic: &(dyn Any + Send)) -> String {
    let what = match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(s), _) => s,
        (_, Some(s)) => s.as_str(),
        _ => "no message",
    };
    let place = PLACE.lock().unwrap_or_else(PoisonError::into_inner).take();
    match place {
        Some(place) => format!("{what} ({place})"),
        None => what.to_owned(),
    }
}

/// Prints what a bug report needs.
pub fn report(panic: &(dyn Any + Send)) -> ExitCode {
    crate::failure::print(
        &format!("kiln is wrong: {}", text(panic)),
        &[
            ("version", format!("kiln {}", env!("CARGO_PKG_VERSION"))),
            ("machine", format!("{} {}", std::env::consts::OS, std::env::consts::ARCH)),
            ("command", std::env::args().collect::<Vec<_>>().join(" ")),
            ("help", "this is a bug in kiln; please report it with these lines".into()),
        ],
    );
    ExitCode::from(crate::failure::BUG)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panics_become_text() {
        install_hook();
        let text = catch(|| -> u8 { panic!("stone {}", 3) }).expect_err("it panics");
        assert!(text.starts_with("stone 3 (src/bin/kiln/bugs.rs:"), "{text}");
        assert_eq!(catch(|| 5), Ok(5));
    }
}
