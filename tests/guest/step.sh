# How a script of the guest reports its steps: sourced. For each step it prints
#   @step <name> pass|fail
# and, by `steps_done`, "@steps <passed> passed, <failed> failed".
export TPM2TOOLS_TCTI=device:/dev/tpmrm0
cd /tmp || exit 1
passed=0
failed=0

# step NAME COMMAND...: runs a command (a function or a program); its output is shown if it fails, and
# its status given back.
step() {
    name=$1
    shift
    if "$@" >/tmp/log 2>&1; then
        passed=$((passed + 1))
        echo "@step $name pass"
    else
        status=$?
        failed=$((failed + 1))
        echo "@step $name fail"
        echo "  $* (status $status)"
        sed 's/^/  | /' /tmp/log
        return "$status"
    fi
}
steps_done() { echo "@steps $passed passed, $failed failed"; }

# refused COMMAND...: holds if the command fails.
refused() { ! "$@"; }
tpm() { tool=$1; shift; tpm2 "$tool" "$@"; }
