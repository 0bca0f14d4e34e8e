# chopar: build, try, test, install.
#
#   make            one static binary
#   make demo       the whole trip of two messages on loopback: no root, no network, no set-up
#   make test       format, lints and every test; as root it installs the Debian packages that the tests drive. Where
#                   cargo-deny is installed it looks at what this is made of, too (.ci/deny.toml)
#   make sim        SEEDS=FIRST..LAST runs these seeds of the simulator in each kind of world
#   make sim-million  gives it a queue of a million messages and prints what that took
#   make readers    INPUTS= (10000000) values of From and Authentication-Results, each against other readers of them
#   make bench      measures it beside Postfix, and beside Postfix with opendkim, opendmarc and postsrsd, where they are
#                   installed (it says which are not); BENCH= takes options of tests/bench/bench.py
#   make fuzz       TARGET= (a name of tests/fuzz/fuzz_targets) and SECONDS= (60)
#   make pressure   crowds of peers, slow ones and flooding ones, in full; make test has a short form of it
#   make faults     kill -9, EIO, ENOSPC and others at every system call, in full; make test has a short form of it
#   make install    installs what make has built, without a compiler; DESTDIR= and PREFIX= as usual
#   make uninstall  removes what make install has put there, and says what stays
#
#   make deb        a package for Debian and Ubuntu, of what make builds
#   make dist       a tarball with the binary, the manual, units, completions, checksums and an SBOM
#   make reproduce  builds twice, in two folders, and compares binary, package and tarball byte for byte
#
# For make, make deb, make dist and make test, TARGET= takes another triple of rustc's, for example aarch64-unknown-linux-gnu or
# x86_64-unknown-linux-musl; what is missing for it is named.

host = $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p')
TARGET ?= $(host)
PREFIX ?= /usr
DESTDIR ?=
CARGO ?= cargo
# The most that the binary may take.
BINARY_BYTES_MAX = 7864320

target_dir = $(or $(CARGO_TARGET_DIR),target)
binary = $(target_dir)/$(TARGET)/release/chopar
# What make has built last, whatever for: whoever installs it, often root, need not have a compiler to ask.
built = $(target_dir)/chopar
# Where each shell finds what make has put into completions/.
completion_places = bash-completion/completions/chopar fish/vendor_completions.d/chopar.fish zsh/site-functions/_chopar

# What the end-to-end tests drive chopar with: clients, receivers, judges of signatures, a name server. The tests call
# them by their paths. Postfix is run in throwaway folders; its service is not started.
packages = libdb5.3 libevent-2.1-7 libgnutls-dane0 libidn12 libnsl2 postfix swaks msmtp curl python3 python3-aiosmtpd python3-authheaders python3-authres python3-dkim \
	python3-spf opendkim-tools unbound knot libfaketime iproute2 bind9-dnsutils pebble mandoc openssl testssl.sh strace procmail \
	maildrop dovecot-lmtpd spamassassin \
	spamc spamd fail2ban chromium prometheus systemd systemd-container cron at bsd-mailx mutt php-cli \
	git-email procps lintian zsh fish

# Mail servers that cannot be installed beside Postfix: their files lie beside the tests. The libraries that they need are
# among the packages.
far_ends = exim4-daemon-light opensmtpd
# Packages of which only the configuration is read.
configured = chasquid opendkim
# What starts services on machines without systemd: init is run with it on a machine that is thrown away.
supervisors = runit openrc libeinfo1 librc1

.PHONY: all toolchain cross binary completions demo test sim sim-million readers fuzz pressure faults bench packages install uninstall deb dist reproduce
.DEFAULT_GOAL := all

all: binary
	@ldd $(binary) 2>&1 | grep -Eq 'statically linked|not a dynamic executable' \
		|| { echo "$(binary) is not static:" >&2; ldd $(binary) >&2; exit 1; }
	@size=$$(wc -c < $(binary)); echo "$(binary): static, $$size bytes"; \
	if [ "$$size" -gt $(BINARY_BYTES_MAX) ]; then echo "more than $(BINARY_BYTES_MAX) bytes" >&2; exit 1; fi
	@cp -f $(binary) $(built)
	@$(MAKE) --no-print-directory completions

# What shells complete with. A binary for another machine cannot be asked: one for this machine is built for that.
completions = $(target_dir)/completions
completions:
	@mkdir -p $(completions); \
	ask=$(abspath $(binary)); \
	if [ "$$($$ask completion bash 2>/dev/null | wc -c)" = 0 ]; then \
		$(CARGO) build --locked && ask=$(abspath $(target_dir))/debug/chopar || exit 1; \
	fi; \
	$$ask completion bash > $(completions)/chopar && $$ask completion fish > $(completions)/chopar.fish \
		&& $$ask completion zsh > $(completions)/_chopar

# Static, and position-independent with its relocations packed. With --target the flags reach the binary and not the
# build scripts, which a static libc does not suit.
static = -C target-feature=+crt-static -C link-arg=-Wl,-z,pack-relative-relocs
# No folder of the machine that builds it is in the binary: built elsewhere it is the same, byte for byte.
cargo_home = $(or $(CARGO_HOME),$(HOME)/.cargo)
no_paths = --remap-path-prefix=$(cargo_home)=cargo --remap-path-prefix=$(abspath $(target_dir))=target \
	--remap-path-prefix=$(CURDIR)=chopar

# Says what is missing before a build fails of it: Debian's rustc is older than rust-version in Cargo.toml.
rust_version = $(shell sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
toolchain:
	@command -v $(CARGO) >/dev/null 2>&1 && found=$$(rustc --version 2>/dev/null | cut -d ' ' -f 2) || found=; \
	oldest=$$(printf '%s\n' $(rust_version) "$${found%%-*}" | sort -V | head -n 1); \
	[ -z "$$found" ] || [ "$$oldest" != $(rust_version) ] || exit 0; \
	if [ -n "$$found" ]; then echo "rustc $$found is too old: chopar needs Rust $(rust_version) or later" >&2; \
	else echo "cargo or rustc is missing: chopar is built with Rust $(rust_version) or later" >&2; fi; \
	echo "Get a toolchain beside that of the system, which is left as it is (https://rustup.rs):" >&2; \
	echo "  curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal && . ~/.cargo/env" >&2; \
	echo "or, where the system has rustup (Debian 13): apt install rustup && rustup default stable. Then run make again." >&2; \
	exit 1

# For a machine of another kind: the standard library of the toolchain, and a compiler and linker as Debian calls them, where
# the variable by which cargo is told of one names no other.
linker_variable = CARGO_TARGET_$(shell echo $(TARGET) | sed 's/.*/\U&/; y/-/_/')_LINKER
cross_linker = $(shell echo $(TARGET) | sed 's/^\([^-]*\)-.*-\([^-]*\)$$/\1-linux-\2/; s/^armv7-/arm-/; s/^riscv64gc-/riscv64-/')-gcc
kind = $(firstword $(subst -, ,$(1)))
linker = $(if $(filter-out $(call kind,$(host)),$(call kind,$(TARGET))),$(or $($(linker_variable)),$(cross_linker)))
cross: toolchain
	@[ $(TARGET) != $(host) ] || exit 0; \
	lacks=; \
	ls "$$(rustc --print target-libdir --target $(TARGET))"/libstd-* >/dev/null 2>&1 \
		|| lacks="$$lacks; the standard library: rustup target add $(TARGET)"; \
	[ -z "$(linker)" ] || command -v "$(linker)" >/dev/null \
		|| lacks="$$lacks; the linker $(linker), in Debian: apt install $(patsubst %-gcc,gcc-%,$(linker))"; \
	[ -z "$$lacks" ] || { echo "to build for $(TARGET), this machine lacks$${lacks#;}" >&2; exit 1; }

binary: cross
	$(if $(linker),$(linker_variable)=$(linker)) RUSTFLAGS='$(static) $(no_paths)' \
		$(CARGO) build --release --locked --target $(TARGET)

demo: binary
	$(binary) demo

# cargo test comes last, so that its own summary is what is seen.
test: toolchain packages
	$(CARGO) fmt --check
	CLIPPY_CONF_DIR=$(CURDIR)/.ci $(CARGO) clippy --locked --all-targets -- -D warnings
	@if $(CARGO) deny --version >/dev/null 2>&1; then \
		$(CARGO) deny --locked --config .ci/deny.toml check licenses bans sources; \
	else echo "cargo-deny is not installed: licences, versions and sources of what this is made of were not looked at"; fi
	$(MAKE) all
	CHOPAR_BINARY=$(abspath $(binary)) $(CARGO) test --locked --no-fail-fast

# Prints what happened in each kind of world; the message of a run that fails names the one seed to run again.
SEEDS ?= 0..499
sim: toolchain
	CHOPAR_SEEDS=$(SEEDS) $(CARGO) test --locked --test sim -- --nocapture

sim-million: toolchain
	CHOPAR_MESSAGES=1000000 $(CARGO) test --locked --test sim -- --nocapture million::

INPUTS ?= 10000000
readers: toolchain
	CHOPAR_FUZZ_INPUTS=$(INPUTS) $(CARGO) test --locked --test differential -- --nocapture from:: claims::

# CHOPAR_BINARY= measures a binary that is there already.
bench: $(if $(CHOPAR_BINARY),,all)
	CHOPAR_BINARY=$(or $(CHOPAR_BINARY),$(abspath $(binary))) /usr/bin/python3 -B tests/bench/bench.py $(BENCH)

# libFuzzer starts from the corpus that is checked in and keeps what it learns in tests/fuzz/found, what breaks a promise
# in tests/fuzz/artifacts. The coverage flags are not stable: RUSTC_BOOTSTRAP lets the one toolchain take them. There is
# no unsafe code to find with a sanitizer; debug assertions and overflow checks are on.
SECONDS ?= 60
fuzz_names = $(notdir $(basename $(wildcard tests/fuzz/fuzz_targets/*.rs)))

fuzz:
	@$(CARGO) fuzz --version >/dev/null 2>&1 \
		|| { echo "cargo-fuzz is not installed: cargo install --locked cargo-fuzz, which needs a C++ compiler" >&2; exit 1; }
	@case " $(fuzz_names) " in *" $(TARGET) "*) ;; *) echo "TARGET= is one of: $(fuzz_names)" >&2; exit 1;; esac
	mkdir -p tests/fuzz/found/$(TARGET)
	cd tests/fuzz && RUSTC_BOOTSTRAP=1 $(CARGO) fuzz run --fuzz-dir . -s none --target-dir $(abspath $(target_dir))/fuzz \
		$(TARGET) found/$(TARGET) corpus/$(TARGET) -- -max_total_time=$(SECONDS) -max_len=4096 -timeout=10 -print_final_stats=1

# One test after the other: they would take each other's processors.
pressure: toolchain
	CHOPAR_PRESSURE=long $(CARGO) test --locked --test pressure -- --nocapture --test-threads 1

# The message of a run that fails names for each case the command that runs it alone.
faults: toolchain
	CHOPAR_FAULTS=long $(CARGO) test --locked --test faults -- --nocapture

# Installs what is missing without starting a daemon (invoke-rc.d and deb-systemd-invoke ask policy-rc.d) and without
# taking anything away that the machine has.
packages:
	@missing=; for name in $(packages); do \
		dpkg-query -W -f '$${db:Status-Status}' $$name 2>/dev/null | grep -qx installed || missing="$$missing $$name"; \
	done; \
	[ -n "$$missing" ] || exit 0; \
	if [ "$$(id -u)" != 0 ]; then echo "the tests need these packages; install them, or run this as root:$$missing" >&2; exit 1; fi; \
	echo "installing:$$missing"; \
	policy=/usr/sbin/policy-rc.d; \
	if [ ! -e $$policy ]; then printf '#!/bin/sh\nexit 101\n' > $$policy; chmod 755 $$policy; trap 'rm -f '$$policy EXIT; fi; \
	export DEBIAN_FRONTEND=noninteractive; \
	apt-get update -qq && apt-get install -y -qq --no-install-recommends --no-remove -o Dpkg::Use-Pty=0 $$missing >/dev/null
	@for name in $(far_ends) $(configured) $(supervisors); do \
		folder=$(abspath $(target_dir))/far-ends/$$name; \
		[ ! -d $$folder/usr ] || continue; \
		mkdir -p $$folder && chmod 777 $$folder && cd $$folder && apt-get download -qq $$name && dpkg -x $$name*.deb . \
			&& chmod 755 $$folder || exit 1; \
	done

# The date of all that is packed: that of the last commit, else that of the change log.
SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || stat -c %Y CHANGELOG.md)
deb: all
	@sh src/setup/debian/build $(target_dir) $(TARGET) $(SOURCE_DATE_EPOCH)

dist: all
	@sh src/setup/dist/build $(target_dir) $(TARGET) $(SOURCE_DATE_EPOCH)

# Two copies of the source in folders of different length, each with a target folder and a time of its own. Both are taken
# before the first is built: what is edited meanwhile makes no difference.
reproduce = $(abspath $(target_dir))/reproduce
reproduce: toolchain
	rm -rf $(reproduce)
	@for copy in one a/second/place; do \
		mkdir -p $(reproduce)/$$copy && tar -cf - --exclude=./.git --exclude=./target . | tar -xf - -C $(reproduce)/$$copy || exit 1; \
	done
	@for copy in one a/second/place; do \
		env -u MAKEFLAGS -u CARGO_TARGET_DIR $(MAKE) -C $(reproduce)/$$copy deb dist TARGET=$(TARGET) \
			SOURCE_DATE_EPOCH=$(SOURCE_DATE_EPOCH) || exit 1; \
	done
	@cd $(reproduce)/one/target && equal= different= && for file in chopar *.deb *.tar.gz; do \
		if cmp $$file ../../a/second/place/target/$$file; then sha256sum $$file && equal="$$equal $$file"; \
		else different="$$different $$file"; fi; \
	done; \
	if [ -n "$$different" ]; then \
		echo "built twice, in two folders, and not equal:$$different; both are below $(reproduce)" >&2; exit 1; \
	fi; echo "built twice, in two folders, and equal, byte for byte:$$equal"

# A sendmail that another mail system put there stays; remove that system first, then install again.
install:
	@[ -x $(built) ] || { echo "$(built) is not there: run make first, with the same CARGO_TARGET_DIR" >&2; exit 1; }
	install -D -m 755 $(built) $(DESTDIR)$(PREFIX)/bin/chopar
	mkdir -p $(DESTDIR)$(PREFIX)/sbin $(DESTDIR)$(PREFIX)/lib
	@kept=; for link in sbin/sendmail lib/sendmail bin/mailq bin/newaliases; do \
		path=$(DESTDIR)$(PREFIX)/$$link; \
		case "$$(readlink $$path)" in *chopar) rm -f $$path;; esac; \
		case "$$(readlink -f $$path)" in */chopar) continue;; esac; \
		if [ -e $$path ] || [ -L $$path ]; then kept="$$kept $$path"; else ln -s ../bin/chopar $$path; fi; \
	done; \
	[ -z "$$kept" ] || echo "left alone, since another mail system put them there:$$kept; programs that call them still" \
		"reach that system and not chopar: remove it, then run make install again" >&2
	@kept=; for page in man/*.[1-8]; do \
		path=$(DESTDIR)$(PREFIX)/share/man/man$${page##*.}/$${page##*/}; \
		if [ -e $$path ] && ! grep -qs chopar $$path; then kept="$$kept $$path"; continue; fi; \
		install -D -m 644 $$page $$path; \
	done; \
	for name in mailq newaliases; do \
		path=$(DESTDIR)$(PREFIX)/share/man/man1/$$name.1; \
		if [ -e $$path ] && ! grep -qs chopar $$path; then kept="$$kept $$path"; continue; fi; \
		ln -sf sendmail.1 $$path; \
	done; \
	[ -z "$$kept" ] || echo "left alone, since another mail system put them there:$$kept; chopar man sendmail shows our own" >&2
	@while read -r mode source place; do \
		case "$$mode" in '#'*) continue;; esac; \
		case "$$place" in /*) place=$(DESTDIR)$$place;; *) place=$(DESTDIR)$(PREFIX)/$$place;; esac; \
		case "$$place" in */etc/fail2ban/*) [ ! -e "$$place" ] || continue;; esac; \
		echo install -D -m $$mode $$source $$place; install -D -m $$mode $$source $$place || exit 1; \
	done < src/setup/installed
	@[ ! -d $(completions) ] || for script in $(completion_places); do \
		install -D -m 644 $(completions)/$${script##*/} $(DESTDIR)$(PREFIX)/share/$$script || exit 1; \
	done

# A service that is to start with the machine would find nothing there. What init or somebody else has put beside it is
# named and stays.
uninstall:
	@enabled=$(DESTDIR)/etc/systemd/system/multi-user.target.wants/chopar.service; \
	if [ -L $$enabled ] && [ "$$(readlink $$enabled)" = $(PREFIX)/lib/systemd/system/chopar.service ]; then \
		echo "chopar starts with the machine: run systemctl disable --now chopar, then make uninstall again" >&2; exit 1; \
	fi
	@for link in sbin/sendmail lib/sendmail bin/mailq bin/newaliases; do \
		path=$(DESTDIR)$(PREFIX)/$$link; \
		case "$$(readlink $$path)" in ../bin/chopar|$(PREFIX)/bin/chopar) rm -f $$path;; esac; \
	done
	@for name in mailq newaliases; do \
		page=$(DESTDIR)$(PREFIX)/share/man/man1/$$name.1; \
		if [ "$$(readlink $$page)" = sendmail.1 ] && grep -qs chopar $$page; then rm -f $$page; fi; \
	done
	@for page in man/*.[1-8]; do \
		path=$(DESTDIR)$(PREFIX)/share/man/man$${page##*.}/$${page##*/}; \
		if grep -qs chopar $$path; then rm -f $$path; fi; \
	done
	@stays=; \
	remove() { if cmp -s $$1 $$2; then rm -f $$2; elif [ -e $$2 ]; then stays="$$stays $$2 (it was changed)"; fi; }; \
	while read -r mode source place; do \
		case "$$mode" in '#'*) continue;; esac; \
		case "$$place" in /*) place=$(DESTDIR)$$place;; *) place=$(DESTDIR)$(PREFIX)/$$place;; esac; \
		remove $$source $$place; \
	done < src/setup/installed; \
	for script in $(completion_places); do rm -f $(DESTDIR)$(PREFIX)/share/$$script; done; \
	rm -f $(DESTDIR)$(PREFIX)/bin/chopar; \
	for path in etc/chopar var/lib/chopar etc/systemd/system/chopar.service $(patsubst src/setup/%,etc/systemd/system/%,$(wildcard src/setup/chopar-*.socket)) \
		etc/sysusers.d/chopar.conf etc/init.d/chopar \
		etc/sv/chopar usr/local/bin/chopar; do \
		[ ! -e $(DESTDIR)/$$path ] || stays="$$stays $(DESTDIR)/$$path"; \
	done; \
	for name in usr/sbin/sendmail usr/lib/sendmail usr/bin/mailq usr/bin/newaliases; do \
		path=$(DESTDIR)/$$name; \
		case "$$(readlink -m $$path)" in */chopar) stays="$$stays $$path";; esac; \
	done; \
	if grep -q '^chopar:' $(DESTDIR)/etc/passwd 2>/dev/null; then stays="$$stays the account chopar"; fi; \
	[ -z "$$stays" ] || echo "stays, since make install did not put it there or it is yours:$$stays"
