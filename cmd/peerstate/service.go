package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"peerstate/cmd/peerstate/ports"
	"peerstate/cmd/peerstate/service"
)

func serviceCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "service",
		Short: "Have the system run the sidecar: Windows service, systemd unit, launchd daemon",
		Long: `Installs the sidecar as a service, and controls it. The service starts with the machine and
again after a failure, runs under an account without rights, and hands its sessions over
when it is stopped or the machine shuts down.`,
		Example: `  peerstate service install --print
  peerstate service install
  peerstate service status`,
	}
	cmd.AddCommand(serviceInstallCommand(), serviceUninstallCommand(), serviceStartCommand(), serviceStopCommand(), serviceStatusCommand())
	return cmd
}

func serviceInstallCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "install",
		Short: "Have the system run this program from now on",
		Long: `Installs this program, where it lies, as a service, and makes a file for its settings if there is
none. Nothing is started yet. It needs an administrator (Windows) or root.

With --print it shows what it would give to the system, and changes nothing. On Windows,
--take-port has the service listen on the port that Microsoft's state service was set to,
so that no Web.config changes.`,
		Example: `  peerstate service install
  peerstate service install --take-port
  peerstate service install --print > peerstate.service`,
		Args: noArgs,
	}
	show := cmd.Flags().Bool("print", false, "show the unit, and change nothing")
	takePort := cmd.Flags().Bool("take-port", false, "listen on the port of Microsoft's state service on this machine")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		p, err := servicePlace()
		if err != nil {
			return err
		}
		if *show {
			_, err := fmt.Fprint(cmd.OutOrStdout(), service.Definition(p))
			return err
		}
		if err := errors.Join(service.Administrator(), service.Readable(p.Program)); err != nil {
			return err
		}
		listen := ""
		if *takePort {
			if listen, err = takenPort(); err != nil {
				return err
			}
		}
		enclosed, err := service.Install(cmd.Context(), p)
		if err != nil {
			return err
		}
		made, err := makeServiceSettings(p, listen)
		if err != nil {
			return fmt.Errorf("the service is installed; its settings cannot be written: %w", err)
		}
		exposed, err := service.Exposed()
		return errors.Join(err, printInstalled(cmd.OutOrStdout(), p, installed{made, enclosed, listen, exposed}))
	}
	return cmd
}

// servicePlace says where the parts of the service are: this program, and the rest where the system has such things.
func servicePlace() (service.Place, error) {
	p := service.Defaults()
	program, err := os.Executable()
	if err != nil {
		return p, fmt.Errorf("find out where this program lies: %w", err)
	}
	p.Program, err = filepath.EvalSymlinks(program)
	return p, err
}

// takenPort is the address with the port of Microsoft's state service.
func takenPort() (string, error) {
	port, err := service.ASPNETStatePort()
	if err != nil {
		return "", err
	}
	if port == 0 {
		return "", errors.New("--take-port: Microsoft's state service is not installed on this machine, so there is no port to take over")
	}
	return fmt.Sprintf("127.0.0.1:%d", port), nil
}

// makeServiceSettings writes the file of settings, unless there is one.
func makeServiceSettings(p service.Place, listen string) (made bool, err error) {
	if _, err := os.Lstat(p.Env); !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	if err := os.MkdirAll(filepath.Dir(p.Env), 0o755); err != nil {
		return false, err
	}
	return true, os.WriteFile(p.Env, []byte(serviceSettings(p, listen)), 0o644)
}

// serviceSettings is a file of settings to begin with.
func serviceSettings(p service.Place, listen string) string {
	var b strings.Builder
	b.WriteString("# Settings of the peerstate service, one NAME=value a line. \"peerstate config\" shows them all,\n" +
		"# \"peerstate check\" says what is wrong. They are read when the service starts.\n\n")
	if listen != "" {
		fmt.Fprintf(&b, "# The port of Microsoft's state service, which this one takes the place of.\nPEERSTATE_LISTEN=%s\n\n", listen)
	}
	if p.Control != "" {
		fmt.Fprintf(&b, "# Where commands such as drain find the service.\nPEERSTATE_CONTROL=%s\n\n", p.Control)
	}
	fmt.Fprintf(&b, "# The service can write in %s only.\n#PEERSTATE_CERT_DIR=%s\n#PEERSTATE_DATA_DIR=%s\n#PEERSTATE_SITE=\n",
		p.Data, filepath.Join(p.Data, "node"), filepath.Join(p.Data, "data"))
	return b.String()
}

// installed is what there is to say of an installation.
type installed struct {
	made     bool   // the file of settings
	enclosed bool   // the directory, which was there and open to others
	listen   string // the port that was taken over; "": none
	exposed  []service.Exposure
}

func printInstalled(w io.Writer, p service.Place, i installed) error {
	settings := p.Env + " (was there, and stays as it is)"
	if i.made {
		settings = p.Env + " (new)"
	}
	data := p.Data
	if i.enclosed {
		data += " (was there, and others could use it: now only you, administrators and the service can)"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "The service %q is installed, and starts with the machine.\n\n", service.Name)
	fmt.Fprintf(&b, "  program   %s\n  settings  %s\n  data      %s\n", p.Program, settings, data)
	if p.Log != "" {
		fmt.Fprintf(&b, "  log       %s, %d MB, and %d older ones\n", p.Log, logSize, logsKept)
	}
	fmt.Fprintf(&b, "  account   %s\n\n", p.Account)
	for _, e := range i.exposed {
		fmt.Fprintf(&b, "Warning: %s.\n  -> %s\n\n", e.What, e.Mend)
	}
	if i.listen != "" && !i.made {
		fmt.Fprintf(&b, "To take over the port of Microsoft's state service, write this into the settings: PEERSTATE_LISTEN=%s\n\n", i.listen)
	}
	if ports.ASPNETStateRuns() {
		fmt.Fprintf(&b, "Microsoft's own state service runs on this machine, and has port 42424 unless it was set to another one.\n"+
			"When you change over: cmd /c \"sc stop aspnet_state & sc config aspnet_state start= disabled\"\n"+
			"And back again:       cmd /c \"peerstate service stop & sc config aspnet_state start= auto & sc start aspnet_state\"\n\n")
	}
	node := filepath.Join(p.Data, "node")
	fmt.Fprintf(&b, "Next:\n  1. join the farm      %speerstate join TOKEN --out %s\n", as(p), node)
	fmt.Fprintf(&b, "  2. say so             PEERSTATE_CERT_DIR=%s, in the settings\n", node)
	b.WriteString("  3. see what is wrong  peerstate check\n  4. start it           peerstate service start\n")
	fmt.Fprintf(&b, "     read its log       %s\n", service.Reading(p))
	_, err := io.WriteString(w, b.String())
	return err
}

// as is how a command is run under the service's account, so that the service can read what it makes.
func as(p service.Place) string {
	if p.Control == "" {
		return "" // on Windows the service's account is let in anyway
	}
	return "sudo -u " + p.Account + " "
}

func serviceUninstallCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "uninstall",
		Short: "Stop the service, and have the system forget it; settings, certificates and sessions on disk stay",
		Long: `Stops the service, which hands its sessions over, and removes it from the system. Settings,
certificates and the journal stay where they are.`,
		Example: `  peerstate service uninstall`,
		Args:    noArgs,
	}
	cmd.RunE = serviceDo(func(cmd *cobra.Command, p service.Place) (string, error) {
		err := service.Uninstall(cmd.Context(), p)
		return fmt.Sprintf("The service %q is removed. What stays, until you delete it:\n\n  settings                    %s\n"+
			"  certificates, journal, log  %s\n", service.Name, p.Env, p.Data), err
	})
	return cmd
}

func serviceStartCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "start",
		Short:   "Start the service",
		Long:    `Starts the installed service, and returns when it answers.`,
		Example: `  peerstate service start`,
		Args:    noArgs,
	}
	cmd.RunE = serviceDo(func(cmd *cobra.Command, p service.Place) (string, error) {
		return "The service runs. Its log: " + service.Reading(p) + "\n", service.Start(cmd.Context(), p)
	})
	return cmd
}

func serviceStopCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "stop",
		Short: "Stop the service, which hands its sessions over",
		Long: `Stops the installed service, and returns when it has ended. It hands its sessions over to the
other nodes, or leaves them in its journal (PEERSTATE_ON_STOP).`,
		Example: `  peerstate service stop`,
		Args:    noArgs,
	}
	cmd.RunE = serviceDo(func(cmd *cobra.Command, p service.Place) (string, error) {
		return "The service has stopped.\n", service.Stop(cmd.Context(), p)
	})
	return cmd
}

// serviceDo is a command that changes the service, and prints a text if that went well.
func serviceDo(do func(*cobra.Command, service.Place) (string, error)) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, _ []string) error {
		p, err := servicePlace()
		if err != nil {
			return err
		}
		if err := service.Administrator(); err != nil {
			return err
		}
		text, err := do(cmd, p)
		if err != nil {
			return err
		}
		_, err = io.WriteString(cmd.OutOrStdout(), text)
		return err
	}
}

func serviceStatusCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Say whether the service is installed, and runs",
		Long: `Asks the system how the service is; "peerstate status" asks the sidecar itself. Exit code 1 if it
does not run.`,
		Example: `  peerstate service status`,
		Args:    noArgs,
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		p, err := servicePlace()
		if err != nil {
			return err
		}
		s, err := service.Query(p)
		if err != nil {
			return err
		}
		if !s.Running {
			return fmt.Errorf("the service is installed, and does not run: %s; its log: %s", s.Text, service.Reading(p))
		}
		text := "The service runs"
		if s.PID != 0 {
			text += fmt.Sprintf(", as process %d", s.PID)
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s.\n\n  settings  %s\n  data      %s\n  log       %s\n", text, p.Env, p.Data, service.Reading(p))
		return err
	}
	return cmd
}
