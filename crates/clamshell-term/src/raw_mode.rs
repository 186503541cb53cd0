//! The user's own terminal: raw mode while attached, and its size.
//!
//! Whatever happens (return, panic, signal) the terminal goes back to how it was. What an application
//! switched on inside it (alternate screen, mouse) is [`crate::modes`]'s business.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::Once;
use std::sync::atomic::{AtomicPtr, Ordering};

use rustix::io::Errno;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use thiserror::Error;

/// Size assumed when the terminal does not tell: columns and rows.
pub const DEFAULT_SIZE: (u16, u16) = (80, 24);

/// Why raw mode could not be had.
#[derive(Debug, Error)]
pub enum RawModeError {
    /// The descriptor is no terminal.
    #[error("not a terminal")]
    NotATerminal,
    /// Another guard is alive. There is one terminal and one way back.
    #[error("the terminal is in raw mode already")]
    AlreadyRaw,
    /// The kernel refused.
    #[error("cannot change the terminal's mode")]
    Refused(#[source] Errno),
}

struct Saved {
    fd: RawFd,
    termios: Termios,
}

/// How the terminal was, for the panic hook and for signal handlers, which can reach nothing but
/// statics and may not lock. Null while no guard is alive.
static SAVED: AtomicPtr<Saved> = AtomicPtr::new(std::ptr::null_mut());

static PANIC_HOOK: Once = Once::new();

/// Raw mode, until dropped.
#[derive(Debug)]
#[must_use = "dropping it ends raw mode"]
pub struct RawMode<'fd> {
    fd: BorrowedFd<'fd>,
}

impl<'fd> RawMode<'fd> {
    /// Puts the terminal into raw mode. The first call adds a step in front of the panic hook that
    /// restores the terminal, so that the message can be read.
    ///
    /// # Errors
    /// [`RawModeError`]; the terminal is as it was.
    pub fn enter<Fd: AsFd + ?Sized>(terminal: &'fd Fd) -> Result<Self, RawModeError> {
        let fd = terminal.as_fd();
        let termios = tcgetattr(fd).map_err(|errno| match errno {
            Errno::NOTTY => RawModeError::NotATerminal,
            errno => RawModeError::Refused(errno),
        })?;
        let mut raw = termios.clone();
        raw.make_raw();

        // Leaked on purpose: a signal handler may be reading it at any time, also after the guard is
        // gone. Some seventy bytes for each attach.
        let saved: *mut Saved = Box::leak(Box::new(Saved { fd: fd.as_raw_fd(), termios }));
        SAVED
            .compare_exchange(std::ptr::null_mut(), saved, Ordering::AcqRel, Ordering::Acquire)
            .map_err(|_| RawModeError::AlreadyRaw)?;
        PANIC_HOOK.call_once(|| {
            let previous = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |info| {
                restore_now();
                previous(info);
            }));
        });
        let guard = Self { fd };
        tcsetattr(fd, OptionalActions::Now, &raw).map_err(RawModeError::Refused)?;
        Ok(guard)
    }

    /// The terminal.
    pub fn terminal(&self) -> BorrowedFd<'fd> {
        self.fd
    }
}

impl Drop for RawMode<'_> {
    fn drop(&mut self) {
        restore_now();
        SAVED.store(std::ptr::null_mut(), Ordering::Release);
    }
}

/// Takes the terminal out of raw mode if a guard put it there. Only loads a pointer and makes one
/// system call, so a signal handler may call it; calling it twice does no harm.
pub fn restore_now() {
    let saved = SAVED.load(Ordering::Acquire);
    // SAFETY: the pointer is null or comes from `Box::leak` in `enter` and is never freed or changed.
    let Some(saved) = (unsafe { saved.as_ref() }) else {
        return;
    };
    // SAFETY: the guard borrows this descriptor and clears SAVED before the borrow ends. A handler
    // that loaded the pointer just before makes at worst a call that fails with EBADF or ENOTTY.
    let fd = unsafe { BorrowedFd::borrow_raw(saved.fd) };
    // Nobody is left to tell: the terminal is gone, or was never changed.
    let _ = tcsetattr(fd, OptionalActions::Now, &saved.termios);
}

/// Columns and rows of the terminal; `None` when it is no terminal or does not know.
pub fn window_size<Fd: AsFd + ?Sized>(terminal: &Fd) -> Option<(u16, u16)> {
    let size = tcgetwinsize(terminal.as_fd()).ok()?;
    (size.ws_col > 0 && size.ws_row > 0).then_some((size.ws_col, size.ws_row))
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;
    use std::sync::Mutex;

    use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
    use rustix::termios::{LocalModes, Winsize, tcsetwinsize};

    use super::*;

    /// The tests share the one way back.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

    fn terminal() -> (OwnedFd, OwnedFd) {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let controller = openpt(flags).unwrap();
        grantpt(&controller).unwrap();
        unlockpt(&controller).unwrap();
        let terminal = ioctl_tiocgptpeer(&controller, flags).unwrap();
        (controller, terminal)
    }

    fn echoes(terminal: &OwnedFd) -> bool {
        tcgetattr(terminal).unwrap().local_modes.contains(LocalModes::ECHO | LocalModes::ICANON)
    }

    #[test]
    fn a_drop_restores() {
        let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let (_controller, terminal) = terminal();
        assert!(echoes(&terminal));
        let raw = RawMode::enter(&terminal).unwrap();
        assert!(!echoes(&terminal));
        assert!(matches!(RawMode::enter(&terminal), Err(RawModeError::AlreadyRaw)));
        drop(raw);
        assert!(echoes(&terminal));
        drop(RawMode::enter(&terminal).unwrap());
    }

    #[test]
    fn a_signal_handler_restores() {
        let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let (_controller, terminal) = terminal();
        restore_now();
        let _raw = RawMode::enter(&terminal).unwrap();
        restore_now();
        restore_now();
        assert!(echoes(&terminal));
    }

    #[test]
    fn a_panic_restores_before_its_message() {
        let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let (_controller, terminal) = terminal();
        let caught = std::panic::catch_unwind(|| {
            let _raw = RawMode::enter(&terminal).unwrap();
            panic!("this message is part of the test");
        });
        assert!(caught.is_err());
        assert!(echoes(&terminal));
    }

    #[test]
    fn sizes() {
        let (controller, terminal) = terminal();
        assert_eq!(window_size(&terminal), None);
        let size = Winsize { ws_col: 132, ws_row: 43, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&controller, size).unwrap();
        assert_eq!(window_size(&terminal), Some((132, 43)));
        let file = tempfile::tempfile().unwrap();
        assert_eq!(window_size(&file), None);
        assert!(matches!(RawMode::enter(&file), Err(RawModeError::NotATerminal)));
    }
}
