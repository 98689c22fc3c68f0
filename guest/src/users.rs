//! Users of the guest, from `/etc/passwd` and `/etc/group`: a static program has no other directory of them.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use pve_edge_guest_protocol::answer::{Code, Refusal};
use rustix::{
    process::{Gid, Uid, getuid},
    thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid},
};
use serde::{Deserialize, Serialize};

/// User as whom something is done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Name; the number if it has none.
    pub name: String,
    /// Number.
    pub uid: u32,
    /// Number of the first group.
    pub gid: u32,
    /// Numbers of all groups, the first one too.
    pub groups: Vec<u32>,
    /// Home.
    pub home: PathBuf,
    /// Shell.
    pub shell: PathBuf,
}

impl User {
    /// The user of a name or a number, as the files below `etc` have it; without one, the user of the daemon. A number
    /// that no line has is a user without a name, whose home is `/`.
    pub fn find(etc: &Path, wanted: Option<&str>) -> Result<Self, Refusal> {
        let passwd = fs::read_to_string(etc.join("passwd")).unwrap_or_default();
        let group = fs::read_to_string(etc.join("group")).unwrap_or_default();
        let own = getuid().as_raw().to_string();
        let wanted = wanted.unwrap_or(&own);
        Self::among(&passwd, &group, wanted)
            .ok_or_else(|| Refusal::new(Code::NoSuchUser, format!("the guest has no user {wanted:?}")))
    }

    fn among(passwd: &str, group: &str, wanted: &str) -> Option<Self> {
        let users = passwd.lines().filter_map(line);
        let number = wanted.parse::<u32>().ok().filter(|it| *it != u32::MAX);
        let mut users = users.filter(|user| user.name == wanted || Some(user.uid) == number);
        let mut user = users.next().or_else(|| number.map(nameless))?;
        let more = group.lines().filter_map(|line| member(line, &user.name)).filter(|it| *it != user.gid);
        let more: Vec<u32> = more.collect();
        user.groups.extend(more);
        Some(user)
    }

    /// Makes this process the user's. Only for a process of one thread; fails with `EPERM` unless it is root's, or the
    /// user's already.
    pub fn assume(&self) -> io::Result<()> {
        if getuid().as_raw() == self.uid && self.uid != 0 {
            return Ok(());
        }
        let groups: Vec<Gid> = self.groups.iter().map(|it| Gid::from_raw(*it)).collect();
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        set_thread_groups(&groups)?;
        set_thread_res_gid(gid, gid, gid)?;
        set_thread_res_uid(uid, uid, uid)?;
        Ok(())
    }

    /// A path of the user's: below the home, unless it is absolute.
    pub fn path(&self, path: &str) -> PathBuf {
        self.home.join(path)
    }
}

/// Names of the guest's users and groups, by their numbers.
#[derive(Clone, Debug, Default)]
pub struct Names {
    users: BTreeMap<u32, String>,
    groups: BTreeMap<u32, String>,
}

impl Names {
    /// Reads the files below `etc`.
    pub fn read(etc: &Path) -> Self {
        let passwd = fs::read_to_string(etc.join("passwd")).unwrap_or_default();
        let group = fs::read_to_string(etc.join("group")).unwrap_or_default();
        Self { users: names(&passwd), groups: names(&group) }
    }

    /// Name of a user.
    pub fn user(&self, uid: u32) -> Option<&str> {
        self.users.get(&uid).map(String::as_str)
    }

    /// Name of a group.
    pub fn group(&self, gid: u32) -> Option<&str> {
        self.groups.get(&gid).map(String::as_str)
    }
}

/// Names in lines of `name:password:number`; the first of a number counts.
fn names(text: &str) -> BTreeMap<u32, String> {
    let mut names = BTreeMap::new();
    for line in text.lines() {
        let mut fields = line.split(':');
        let (name, number) =
            (fields.next().unwrap_or_default(), fields.nth(1).and_then(|it| it.parse().ok()));
        if let Some(number) = number.filter(|_| !name.is_empty()) {
            names.entry(number).or_insert_with(|| name.to_owned());
        }
    }
    names
}

/// Reads a line of `/etc/passwd`: `name:password:uid:gid:comment:home:shell`.
fn line(line: &str) -> Option<User> {
    let mut fields = line.split(':');
    let name = fields.next().filter(|it| !it.is_empty())?.to_owned();
    let mut fields = fields.skip(1);
    let (uid, gid) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    let mut fields = fields.skip(1).map(|it| Some(it.trim()).filter(|it| !it.is_empty()));
    let home = fields.next().flatten().unwrap_or("/").into();
    let shell = fields.next().flatten().unwrap_or("/bin/sh").into();
    Some(User { name, uid, gid, groups: vec![gid], home, shell })
}

fn nameless(uid: u32) -> User {
    User {
        name: uid.to_string(),
        uid,
        gid: uid,
        groups: vec![uid],
        home: "/".into(),
        shell: "/bin/sh".into(),
    }
}

/// The number of a group in a line of `/etc/group` (`name:password:gid:members`) that has this member.
fn member(line: &str, name: &str) -> Option<u32> {
    let mut fields = line.split(':').skip(2);
    let gid = fields.next()?.parse().ok()?;
    fields.next()?.split(',').any(|it| it.trim() == name).then_some(gid)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\nweb:x:1000:1000::/home/web:\nbroken:x\n";
    const GROUP: &str = "root:x:0:\nweb:x:1000:web\nsudo:x:27:me,web\nvideo:x:44:other\n";

    #[test]
    fn users_are_found_by_name_and_by_number() {
        let web = User::among(PASSWD, GROUP, "web").unwrap();
        assert_eq!(
            (web.uid, web.groups.as_slice(), web.shell.to_str()),
            (1000, &[1000, 27][..], Some("/bin/sh"))
        );
        assert_eq!(User::among(PASSWD, GROUP, "1000"), Some(web.clone()));
        assert_eq!(web.path("a/b"), PathBuf::from("/home/web/a/b"));
        assert_eq!(web.path("/a/b"), PathBuf::from("/a/b"));
        let nameless = User::among(PASSWD, GROUP, "4711").unwrap();
        assert_eq!((nameless.gid, nameless.home.to_str()), (4711, Some("/")));
        for wanted in ["nobody", "", "broken", "4294967295", "-1"] {
            assert_eq!(User::among(PASSWD, GROUP, wanted), None, "{wanted}");
        }
    }

    #[test]
    fn names_are_found_by_number() {
        let users = names("root:x:0:0::/root:\nadmin:x:0:0::/:\nweb:x:1000:\n:x:7:\nbroken\n");
        assert_eq!(users, BTreeMap::from([(0, "root".to_owned()), (1000, "web".to_owned())]));
    }

    proptest! {
        #[test]
        fn any_files_are_read_without_a_panic(passwd in "(?s).{0,200}", group in "(?s).{0,200}", wanted in ".{0,8}") {
            let _ = User::among(&passwd, &group, &wanted);
            let _ = names(&group);
        }
    }
}
