//! `completions`: every shell gets a script that names the commands, and bash accepts its own.

use std::process::Command;

use crate::support::{Root, expect, stderr, stdout};

#[test]
fn every_shell_gets_a_script_with_the_commands() {
    let root = Root::new();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = stdout(&root.ok(&["completions", shell]));
        for word in ["synapse-train", "compare", "completions", "generate", "offline"] {
            assert!(script.contains(word), "{shell} does not complete `{word}`");
        }
    }
}

#[test]
fn an_unknown_shell_is_refused_with_the_known_ones() {
    let root = Root::new();
    let output = root.train(&["completions", "tcsh"]).output().unwrap();
    let told = stderr(&expect(output, 2));
    assert!(told.contains("bash") && told.contains("zsh"), "{told}");
}

#[cfg(unix)]
#[test]
fn bash_accepts_its_script_and_completes_a_command_with_it() {
    let root = Root::new();
    let script = stdout(&root.ok(&["completions", "bash"]));
    std::fs::write(root.join("complete.bash"), script).unwrap();
    let bash = |arguments: &[&str]| {
        let output = Command::new("bash")
            .args(arguments)
            .current_dir(root.join(""))
            .output()
            .unwrap();
        stdout(&expect(output, 0))
    };
    bash(&["-n", "complete.bash"]);
    let completed = bash(&[
        "--norc",
        "-c",
        "source complete.bash; COMP_WORDS=(synapse-train comp); COMP_CWORD=1; \
         function=$(complete -p synapse-train | sed 's/.*-F \\([^ ]*\\).*/\\1/'); \
         $function synapse-train comp synapse-train; echo \"${COMPREPLY[@]}\"",
    ]);
    assert_eq!(completed.trim(), "compare completions");
}
