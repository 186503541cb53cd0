//! Where all of a sandbox is one user, nothing but the guest's own word keeps programs out of its memory.

use clamshell_protocol::{Frame, Reply};

use crate::guest::{Guest, command};

/// What a program may see of a process of its own user, one word a line.
const LOOK: &str = r#"look() {
    for file in environ maps auxv io; do cat "/proc/$1/$file" >/dev/null 2>&1 && echo "$file"; done
    (exec 5<"/proc/$1/mem") 2>/dev/null && echo mem
    ls "/proc/$1/fd/" >/dev/null 2>&1 && echo fd
    for link in exe cwd root fd/0; do readlink "/proc/$1/$link" >/dev/null && echo "$link"; done
    return 0
}
"#;

#[test]
fn programs_of_the_same_user_cannot_look_into_the_guest() {
    let guest = Guest::of_ordinary_user();
    let look = |target: &str| {
        let mut connection = guest.run(command(&format!("{LOOK}{target}")));
        assert!(matches!(connection.reply(), Reply::Started { .. }));
        let mut seen = Vec::new();
        for frame in connection.rest() {
            match frame {
                Frame::Stdout(bytes) => seen.extend(bytes),
                Frame::Exit(exit) => assert_eq!(exit.code, 0),
                other => panic!("{other:?}"),
            }
        }
        String::from_utf8(seen).unwrap()
    };
    // Else this test would notice nothing.
    let all = "environ\nmaps\nauxv\nio\nmem\nfd\nexe\ncwd\nroot\nfd/0\n";
    assert_eq!(look("sleep 60 & look $!; kill $!"), all, "another process of the user");
    assert_eq!(look(&format!("look {}; kill -0 {}", guest.pid(), guest.pid())), "", "the guest");
}
