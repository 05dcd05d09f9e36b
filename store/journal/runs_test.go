package journal

import (
	"errors"
	"testing"
	"testing/synctest"
)

// began starts a journal, stops it, and gives the number of that run.
func began(t *testing.T, d *memory, said *spoken) (n uint64) {
	t.Helper()
	o := options()
	told := 0
	o.Run = func(run uint64) { n, told = run, told+1 }
	if said != nil {
		o.Log = said.log()
	}
	j, _ := start(t, d, o)
	stop(t, j)
	if told != 1 {
		t.Errorf("a run was told its number %d times", told)
	}
	return n
}

func TestEachRunHasTheNextNumber(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newMemory()
		first := began(t, d, nil)
		for i := range uint64(3) {
			if got := began(t, d, nil); got != first+1+i {
				t.Errorf("run %d after %d", got, first+i)
			}
		}
	})
}

// Nothing has to be written for it: the run may have been killed before it had anything to write.
func TestARunThatIsKilledAtOnceHasCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, _, want := few(t)
		first := began(t, d, nil)
		o := options()
		var killed uint64
		o.Run = func(run uint64) { killed = run }
		j, all := start(t, d, o)
		after := d.kill()
		stop(t, j)
		if killed != first+1 || len(all) != len(want) {
			t.Errorf("run %d after %d, %d keys", killed, first, len(all))
		}
		if got := began(t, after, nil); got != killed+1 {
			t.Errorf("run %d after %d, which was killed", got, killed)
		}
	})
}

func TestADamagedNumberOfRunsIsNoReasonNotToStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, _, want := few(t)
		began(t, d, nil)
		for bit := range 8 * len(d.files[runsFile].data) {
			flipped, said := d.kill(), &spoken{}
			flipped.files[runsFile].data[bit/8] ^= 1 << (bit % 8)
			n := began(t, flipped, said)
			if !said.has("ERROR") {
				t.Errorf("bit %d: nobody has noticed", bit)
			}
			if next := began(t, flipped, nil); next != n+1 {
				t.Errorf("bit %d: run %d after %d", bit, next, n)
			}
			if all := load(t, flipped); len(all) != len(want) {
				t.Errorf("bit %d: %d keys, want %d", bit, len(all), len(want))
			}
		}
	})
}

func TestADiskThatDoesNotTakeTheNumberOfTheRunIsNoReasonNotToStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, said := newMemory(), &spoken{}
		d.fail = func(op, name string) error {
			if op == "write" && name == runsFile {
				return errors.New("no space left on device")
			}
			return nil
		}
		began(t, d, said)
		if !said.has("number of this run") {
			t.Error("nobody is told")
		}
	})
}

func TestADirectoryThatIsRefusedIsNotCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, _, _ := few(t)
		n := began(t, d, nil)
		if _, err := open(d, Options{Farm: "farm", Node: "web2", sizes: small}, nil); !errors.Is(err, ErrForeign) {
			t.Fatal(err)
		}
		if _, err := open(d, options(), func(string, []byte) error { return ErrNewer }); !errors.Is(err, ErrNewer) {
			t.Fatal(err)
		}
		if got := began(t, d, nil); got != n+1 {
			t.Errorf("run %d after %d", got, n)
		}
	})
}
