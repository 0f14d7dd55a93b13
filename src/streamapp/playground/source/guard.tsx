/** Keep the page when something that an app has sent cannot be drawn. */

import { Component, type ReactNode } from "react";

/** Show the children, or say why not. */
export class Guard extends Component<{ children: ReactNode }, { error?: Error }> {
  override state: { error?: Error } = {};

  static getDerivedStateFromError(error: Error) {
    return { error };
  }

  override render(): ReactNode {
    const { error } = this.state;
    return error ? <p role="alert" className="error">This cannot be shown: {error.message}</p> : this.props.children;
  }
}
