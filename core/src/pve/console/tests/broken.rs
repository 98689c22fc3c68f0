//! What real shells make of what was broken off, or does not fit.

use std::fs;

use super::{
    super::{
        hub::{script, version},
        line::{End, Reply, Started},
    },
    shells::{Hub, memory, name, shells},
};

/// A byte that is not kept is told, however few there are.
#[test]
fn output_beyond_what_is_kept_is_never_told_as_whole() {
    const KEPT: u64 = 64 << 10;
    for shell in shells() {
        let memory = memory();
        let mut hub = Hub::start(&shell, memory.path(), &script());
        for (number, more) in (1..).zip([0, 1, 100, 64 << 10, 1 << 20]) {
            for (stream, redirection) in [(0, ""), (1, " >&2")] {
                let process = name(number * 2 + u8::from(stream == 1));
                let text = format!("head -c {} /dev/zero{redirection}", KEPT + more);
                hub.put(process, &text);
                assert_eq!(
                    hub.run_of(process, &text, &format!("0 - {KEPT} 0")),
                    Reply::Run(process, Started::Now)
                );
                let exit = hub.exit(process);
                let told = format!("{shell:?}, {more} more: {exit:?}");
                assert_eq!(exit.code, 0, "{told}");
                assert_eq!([exit.sizes.stdout, exit.sizes.stderr][stream], KEPT, "{told}");
                let dropped = exit.dropped[stream];
                assert!((dropped > 0) == (more > 0) && dropped <= more, "{told}");
            }
        }
    }
}

/// 1. A hub makes a name its process's, and is killed before the keeper of that has begun.
/// 2. The same start is asked for again.
#[test]
fn a_start_that_was_broken_off_is_lost() {
    for shell in shells() {
        let memory = memory();
        let mut hub = Hub::start(&shell, memory.path(), &script());
        hub.begin(name(1), "echo ran", 0, true);
        hub.exit(name(1));
        let begun = hub.folder.join(name(2).to_string());
        fs::create_dir_all(begun.join("go")).expect("a folder");
        fs::write(begun.join("c"), "echo ran").expect("a file");
        drop(hub);
        let mut hub = Hub::start(&shell, memory.path(), &script());
        assert_eq!(
            hub.begin(name(2), "echo ran", 0, true),
            Reply::Run(name(2), Started::Before),
            "{shell:?}"
        );
        assert!(matches!(hub.end(name(2)), End::Lost), "{shell:?}");
        assert!(matches!(hub.end(name(1)), End::Exit(_)), "{shell:?}");
        // Nor does a keeper begin that comes late.
        let keeper = hub.folder.join(format!("keeper.{}", version()));
        let mut late = std::process::Command::new("sh");
        late.arg(keeper).args(["0", "-", "4096"]).current_dir(&begun);
        late.status().expect("a shell");
        assert!(!begun.join("o").exists(), "{shell:?}");
    }
}

/// The same start may be on its way twice: it is refused twice, though there is room by then.
#[test]
fn a_start_that_was_refused_is_never_begun() {
    for shell in shells() {
        let memory = memory();
        let mut hub = Hub::start(&shell, memory.path(), &script());
        hub.put(name(1), "echo ran");
        let folder = hub.folder.join(name(1).to_string());
        fs::rename(folder.join("c"), folder.join("refused")).expect("it is there");
        assert_eq!(hub.begin(name(1), "echo ran", 0, false), Reply::Full(name(1)), "{shell:?}");
        assert!(!folder.join("go").exists() && !folder.join("o").exists(), "{shell:?}");
    }
}

/// Where the first place had no room once, another hub of the same start has it later.
#[test]
fn all_hubs_of_one_start_have_the_same_folder() {
    for shell in shells() {
        let (first, second) = (memory(), memory());
        let mut hub = Hub::start(&shell, second.path(), &script());
        hub.begin(name(1), "exit 7", 0, true);
        hub.exit(name(1));
        drop(hub);
        let both = format!("{} {}", first.path().display(), second.path().display());
        let mut hub = Hub::start(&shell, both.as_ref(), &script());
        assert_eq!(hub.exit(name(1)).code, 7, "{shell:?}");
        assert_eq!(fs::read_dir(first.path()).expect("a folder").count(), 0, "{shell:?}");
    }
}
