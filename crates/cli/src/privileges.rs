//! Giving up root, which a server needs for nothing but to open its ports and to read its key.

use anyhow::{Context as _, anyhow, bail};
use nix::unistd::{Gid, Uid, User, geteuid, setgroups, setresgid, setresuid};

use crate::{stdio, words::escaped};

/// The user that a server of root's becomes unless another one is named: it owns nothing.
const USUAL: &str = "nobody";

/// Its number, and that of its group, where the system has no list of users, as in a container of
/// one program: what Linux takes for users that it has no number for (`overflowuid`,
/// user_namespaces(7)).
const USUAL_NUMBER: u32 = 65_534;

/// Who a process is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Account {
    user: Uid,
    group: Gid,
}

/// What is to become of the privileges that this process was started with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Privileges {
    /// They stay: there are none, or root is to stay root.
    Kept,
    /// They go, as somebody wants.
    Wanted(Account),
    /// They go if they can.
    Usual(Account),
}

impl Privileges {
    /// Decides by the user that was named, if one was, and by who runs this.
    ///
    /// # Errors
    ///
    /// There is no such user, or this one cannot become it.
    pub(crate) fn wanted(name: Option<&str>) -> anyhow::Result<Self> {
        Self::of(name, geteuid())
    }

    fn of(name: Option<&str>, current: Uid) -> anyhow::Result<Self> {
        let Some(name) = name else {
            let usual = || account(USUAL).unwrap_or(Account::USUAL);
            return Ok(if current.is_root() {
                Self::Usual(usual())
            } else {
                Self::Kept
            });
        };
        let account = account(name)?;
        if account.user == current {
            return Ok(Self::Kept);
        }
        if !current.is_root() {
            bail!(
                "--user names {}, whom only root can become; leave it out, or start this as root",
                escaped(name)
            );
        }
        Ok(Self::Wanted(account))
    }

    /// Says who the process would be.
    pub(crate) fn told(self) -> String {
        match self {
            Self::Kept => "as the user that starts it".to_owned(),
            Self::Wanted(account) | Self::Usual(account) => {
                format!("as {} once its ports are open", account.name())
            }
        }
    }

    /// Gives them up for all threads, for good.
    ///
    /// # Errors
    ///
    /// The system refuses what was asked for.
    pub(crate) fn apply(self) -> anyhow::Result<()> {
        match self {
            Self::Kept => {}
            Self::Wanted(account) => account.assume().map_err(|error| {
                anyhow!(
                    "this process cannot become {}: {}",
                    account.name(),
                    error.desc()
                )
            })?,
            Self::Usual(account) => {
                let name = account.name();
                stdio::say(match account.assume() {
                    Ok(()) => format!(
                        "note: from here on this runs as {name}, no longer as root; --user names another"
                    ),
                    // As in a container that may not, or has one user alone.
                    Err(error) => format!(
                        "warning: this goes on as root, since it cannot become {name} ({}); start it as another user, \
                         or name one with --user",
                        error.desc()
                    ),
                });
            }
        }
        Ok(())
    }
}

impl Account {
    const USUAL: Self = Self {
        user: Uid::from_raw(USUAL_NUMBER),
        group: Gid::from_raw(USUAL_NUMBER),
    };

    /// Returns the user's name with the number, or the number alone where it has no name.
    fn name(self) -> String {
        match User::from_uid(self.user) {
            Ok(Some(user)) => format!("{} ({})", escaped(&user.name), self.user),
            Ok(None) | Err(_) => format!("user {}", self.user),
        }
    }

    /// Makes all threads those of this account and of none of root's groups, nor able to become
    /// root again: the C library sees to all of them (nptl(7)), and the kernel takes the
    /// capabilities of whoever leaves root (capabilities(7)).
    fn assume(self) -> nix::Result<()> {
        setgroups(&[])?;
        setresgid(self.group, self.group, self.group)?;
        setresuid(self.user, self.user, self.user)
    }
}

/// What stands for "as it is" where the system is told to change a number (setresuid(2)): nobody
/// has it.
const NO_NUMBER: u32 = u32::MAX;

/// Finds a user by name or by number; one that is only a number has the group of the same number.
fn account(name: &str) -> anyhow::Result<Account> {
    let number = name.parse().ok().filter(|it| *it != NO_NUMBER);
    let found = match number {
        Some(number) => User::from_uid(Uid::from_raw(number)),
        None => User::from_name(name),
    };
    let found = found.with_context(|| format!("the user {} cannot be looked up", escaped(name)))?;
    match (found, number) {
        (Some(user), _) => Ok(Account {
            user: user.uid,
            group: user.gid,
        }),
        (None, Some(number)) => Ok(Account {
            user: Uid::from_raw(number),
            group: Gid::from_raw(number),
        }),
        (None, None) => Err(anyhow!(
            "there is no user {} on this machine",
            escaped(name)
        )),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests {
    use super::*;

    const ROOT: Uid = Uid::from_raw(0);
    const SOMEBODY: Uid = Uid::from_raw(54_321);

    fn number(number: u32) -> Account {
        Account {
            user: Uid::from_raw(number),
            group: Gid::from_raw(number),
        }
    }

    #[test]
    fn root_gives_up_what_it_has_unless_told_otherwise() {
        assert!(
            matches!(Privileges::of(None, ROOT), Ok(Privileges::Usual(it)) if !it.user.is_root())
        );
        assert_eq!(
            Privileges::of(Some("root"), ROOT).unwrap(),
            Privileges::Kept
        );
        assert_eq!(Privileges::of(Some("0"), ROOT).unwrap(), Privileges::Kept);
        let wanted = Privileges::of(Some("54321"), ROOT).unwrap();
        assert_eq!(wanted, Privileges::Wanted(number(54_321)));
    }

    #[test]
    fn others_stay_who_they_are() {
        assert_eq!(Privileges::of(None, SOMEBODY).unwrap(), Privileges::Kept);
        let own = Privileges::of(Some("54321"), SOMEBODY).unwrap();
        assert_eq!(own, Privileges::Kept);
        let error = Privileges::of(Some("54322"), SOMEBODY).unwrap_err();
        assert!(error.to_string().contains("only root"), "{error}");
    }

    #[test]
    fn a_user_is_told_by_name_where_there_is_one() {
        assert_eq!(number(0).name(), "root (0)");
        assert_eq!(number(54_321).name(), "user 54321");
    }

    #[test]
    fn a_user_that_there_is_not_is_an_error() {
        let error = account("no-such\u{7}user").unwrap_err().to_string();
        assert_eq!(error, "there is no user no-such\\u{7}user on this machine");
        assert!(account("4294967295").is_err(), "it would change nothing");
    }
}
