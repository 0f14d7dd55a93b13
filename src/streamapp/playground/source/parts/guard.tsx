/** Keep the page when something that an app has sent cannot be drawn. */

import { Component, type ReactNode } from "react";

interface GuardProps {
  children: ReactNode;
  /** What stands there when they cannot be drawn. */
  instead?: ReactNode;
}

/** Show the children, or say why not. */
export class Guard extends Component<GuardProps, { error?: Error }> {
  override state: { error?: Error } = {};

  static getDerivedStateFromError(error: Error) {
    return { error };
  }

  override render(): ReactNode {
    const { error } = this.state;
    const { children, instead = <p role="alert" className="error">This cannot be shown: {error?.message}</p> } = this.props;
    return error ? instead : children;
  }
}
