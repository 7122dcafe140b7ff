package handler

import (
	"context"
)

// provide runs a provider once, with its arguments.
func (c *confinement) provide(ctx context.Context, path string, arguments []string, e Event) Result {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	p, err := openProgram(path, c.agentUID)
	if err != nil {
		return notRun(err)
	}
	defer p.close()
	return c.runOpened(ctx, p, path, e, func(run *prepared) error {
		run.job.Argv = append(run.job.Argv, arguments...)
		return nil
	})
}
